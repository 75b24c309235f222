/**
 * A job's history as a person tells it: when it came in, each attempt with its end, what was done by hand. Pure.
 *
 * @typedef {object} Entry
 * @property {"created"|"attempt"|"retried"|"cancelled"|"given back"|"asked to stop"} kind
 * @property {string} at
 * @property {number} [attempt]
 * @property {string|null} [until]    end of an attempt; null while it runs
 * @property {string} [outcome]       completed, failed, retrying, cancelled, given back
 * @property {string|null} [error]
 * @property {string|null} [next]     when the next attempt is due
 * @property {{value: number, message: string|null}|null} [progress]
 */

/** @typedef {{type: string, seq: number, timestamp: string, job: import("./states.js").Job}} Update */

/**
 * @param {Update[]} updates in the order of `seq`
 * @returns {Entry[]}
 */
export function timeline(updates) {
  /** @type {Entry[]} */
  const entries = [];
  /** @type {import("./states.js").Job|null} */
  let before = null;
  /** @type {Entry|null} */
  let run = null;
  for (const { job, timestamp } of updates) {
    if (before === null && job.version === 1) entries.push({ kind: "created", at: timestamp, next: job.scheduledFor });
    if (job.status === "running") {
      if (run === null || job.startedAt !== before?.startedAt) {
        run = {
          kind: "attempt",
          at: job.startedAt ?? timestamp,
          attempt: job.attempts + 1,
          until: null,
          progress: null,
        };
        entries.push(run);
      }
      run.progress = job.progress ?? run.progress;
      if (job.cancelRequested && !before?.cancelRequested) entries.push({ kind: "asked to stop", at: timestamp });
    } else if (run !== null) {
      Object.assign(run, {
        until: timestamp,
        error: job.error,
        next: job.scheduledFor,
        progress: job.progress ?? run.progress,
      });
      run.outcome = job.status === "pending" ? "given back" : job.status;
      if (job.status !== "retrying") run.next = null;
      run = null;
    } else if (before !== null && job.status === "pending" && before.status !== "pending") {
      entries.push({ kind: "retried", at: timestamp });
    } else if (job.status === "cancelled" && before?.status !== "cancelled") {
      entries.push({ kind: "cancelled", at: timestamp });
    }
    before = job;
  }
  return entries;
}

/**
 * Seconds that a run still takes if it goes on as it has; null where that cannot be said.
 * @param {import("./states.js").Job} job
 * @param {string|null} at when its progress was told
 * @param {number} now ms
 */
export function timeLeft(job, at, now) {
  const value = job.progress?.value ?? 0;
  if (job.status !== "running" || !job.startedAt || !at || value < 0.01 || value >= 1) return null;
  const took = Date.parse(at) - Date.parse(job.startedAt);
  if (took <= 0) return null;
  return Math.max(0, ((took / value) * (1 - value) - (now - Date.parse(at))) / 1000);
}
