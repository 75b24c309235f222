/**
 * The page of jobs that the table shows, kept right by updates, and what is guessed of them meanwhile. Pure.
 *
 * A row keeps its place. One that no longer matches (or is gone) stays, marked as having left, until `settle` takes it
 * away; a job that comes in where there is room is let in, and one that does not fit is only counted: nothing moves
 * under a pointer.
 */
import { matches } from "./filter.js";

/** @typedef {import("./states.js").Job} Job */

/** @param {Job} a @param {Job} b */
const newer = (a, b) => (a.createdAt === b.createdAt ? a.id > b.id : a.createdAt > b.createdAt);

/** Of what waits only so many are told apart; of more it is said that there are more. */
export const MAX_WAITING = 100_000;

/**
 * Whether a job is among those of `statuses` that ended before a time.
 * @param {Job|null} job
 * @param {string[]} statuses
 * @param {string} finishedBefore
 */
export const pruned = (job, statuses, finishedBefore) =>
  job !== null && statuses.includes(job.status) && !!job.completedAt && job.completedAt < finishedBefore;

export class Page {
  /** @param {number} limit rows */
  constructor(limit) {
    this.limit = limit;
    /** @type {Job[]} newest first */
    this.rows = [];
    /** @type {Map<string, number>} rows that have left, and when (ms) */
    this.left = new Map();
    /** @type {Map<string, Job|null>} what belongs here and does not fit; of the oldest only the id is kept */
    this.waiting = new Map();
    /** @type {string[]} those of them that are kept whole, oldest first */
    this.whole = [];
    this.overfull = false;
    /** @type {Set<string>} rows changed since `takeTouched` */
    this.touched = new Set();
    this.reordered = true;
    this.first = true;
    this.loaded = false;
    this.hasMore = false;
    /** @type {string|null} */
    this.cursor = null;
    /** Something is under a pointer: let nothing in. */
    this.held = false;
    this.filter = /** @type {import("./filter.js").Filter} */ ({
      status: [],
      name: [],
      queue: [],
      tag: [],
      q: "",
      mine: false,
    });
    this.subject = "";
  }

  /**
   * Take a list of the server's.
   * @param {{jobs: Job[], cursor: string|null, hasMore: boolean}} answer
   * @param {import("./filter.js").Filter} filter
   * @param {string} subject
   * @param {boolean} first whether it is the first page
   */
  load(answer, filter, subject, first) {
    Object.assign(this, {
      filter,
      subject,
      first,
      rows: answer.jobs,
      cursor: answer.cursor,
      hasMore: answer.hasMore,
      loaded: true,
    });
    this.left.clear();
    this.waiting.clear();
    this.whole = [];
    this.overfull = false;
    this.reordered = true;
  }

  /** @param {string} id */
  find(id) {
    return this.rows.find((row) => row.id === id);
  }

  /**
   * Take a newer state of a job.
   * @param {Job} job
   * @param {number} now ms
   */
  apply(job, now) {
    const at = this.rows.findIndex((row) => row.id === job.id);
    const fits = matches(this.filter, job, this.subject);
    if (at >= 0) {
      if (job.version < this.rows[at].version) return;
      this.rows[at] = job;
      this.touched.add(job.id);
      if (fits) this.left.delete(job.id);
      else if (!this.left.has(job.id)) this.left.set(job.id, now);
      return;
    }
    if (!fits) this.waiting.delete(job.id);
    else if (this.waiting.has(job.id)) this.waiting.set(job.id, this.waiting.get(job.id) && job);
    else if (this.#belongs(job)) {
      if (!this.held && this.rows.length < this.limit) this.#insert(job);
      else this.#wait(job);
    }
  }

  /** @param {string} id @param {number} now */
  remove(id, now) {
    this.waiting.delete(id);
    if (this.find(id) && !this.left.has(id)) {
      this.left.set(id, now);
      this.touched.add(id);
    }
  }

  /** The reader has deleted it: the row goes at once, wherever the pointer is. @param {string} id */
  drop(id) {
    this.waiting.delete(id);
    this.left.delete(id);
    this.rows = this.rows.filter((row) => row.id !== id);
    this.reordered = true;
  }

  /**
   * All of `statuses` that ended before a time are gone.
   * @param {string[]} statuses
   * @param {string} finishedBefore
   * @param {number} now
   */
  prune(statuses, finishedBefore, now) {
    for (const row of this.rows) if (pruned(row, statuses, finishedBefore)) this.remove(row.id, now);
    for (const [id, job] of this.waiting) if (pruned(job, statuses, finishedBefore)) this.waiting.delete(id);
  }

  /**
   * Take away what left before `before`, and let in what fits now. Not while something is held.
   * @param {number} before ms
   * @returns {boolean} whether anything has moved
   */
  settle(before) {
    if (this.held) return false;
    const going = new Set([...this.left].filter(([, when]) => when <= before).map(([id]) => id));
    if (going.size) {
      this.rows = this.rows.filter((row) => !going.has(row.id));
      for (const id of going) this.left.delete(id);
      this.reordered = true;
    }
    for (const id of this.rows.length < this.limit ? this.whole.toReversed() : []) {
      const job = this.waiting.get(id);
      if (this.rows.length >= this.limit) break;
      if (!job || !this.#belongs(job)) continue;
      this.waiting.delete(id);
      this.#insert(job);
    }
    return this.reordered;
  }

  takeTouched() {
    const touched = this.touched;
    this.touched = new Set();
    return touched;
  }

  /** @param {Job} job */
  #belongs(job) {
    if (!this.loaded || !this.first) return false;
    const last = this.rows.at(-1);
    return !this.hasMore || last === undefined || newer(job, last);
  }

  /** @param {Job} job */
  #insert(job) {
    let at = this.rows.findIndex((row) => newer(job, row));
    if (at < 0) at = this.rows.length;
    this.rows.splice(at, 0, job);
    this.reordered = true;
  }

  /** @param {Job} job */
  #wait(job) {
    if (this.waiting.size >= MAX_WAITING) {
      this.overfull = true;
      this.waiting.delete(/** @type {string} */ (this.waiting.keys().next().value));
    }
    this.waiting.set(job.id, job);
    this.whole.push(job.id);
    if (this.whole.length > this.limit) {
      const old = /** @type {string} */ (this.whole.shift());
      if (this.waiting.has(old)) this.waiting.set(old, null);
    }
  }
}

/** What the page takes for granted until the server has answered: a patch a job, gone when the truth is newer. */
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
