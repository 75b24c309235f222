/**
 * What the page takes for granted until the server has answered: a patch a job, gone when the truth is newer. Pure.
 *
 * @typedef {import("./states.js").Job} Job
 */
export class Overlay {
  constructor() {
    /** @type {Map<string, {patch: Partial<Job>|null, version: number}>} null: taken for deleted */
    this.patches = new Map();
  }

  /** @param {Job} job @param {Partial<Job>|null} patch @returns {object} this guess, for `drop` */
  set(job, patch) {
    const guess = { patch, version: job.version };
    this.patches.set(job.id, guess);
    return guess;
  }

  /** @param {string} id @param {object} [guess] only if it is still this one */
  drop(id, guess = this.patches.get(id)) {
    if (this.patches.get(id) === guess) this.patches.delete(id);
  }

  /** The server has told a state: what was guessed before it is void. @param {Job} job */
  settle(job) {
    const known = this.patches.get(job.id);
    if (known && job.version > known.version) this.patches.delete(job.id);
  }

  /**
   * The job as it is shown.
   * @param {Job} job
   * @returns {Job & {guessed?: boolean, going?: boolean}}
   */
  shown(job) {
    const known = this.patches.get(job.id);
    if (!known) return job;
    return known.patch === null ? { ...job, guessed: true, going: true } : { ...job, ...known.patch, guessed: true };
  }
}
