/**
 * The states of a job, as `states.py` and the command line have them.
 *
 * @typedef {"pending"|"running"|"retrying"|"completed"|"failed"|"cancelled"} Status
 *
 * @typedef {object} Job
 * @property {string} id
 * @property {string} name
 * @property {string} queue
 * @property {any} data
 * @property {Status} status
 * @property {number} priority
 * @property {number} attempts
 * @property {number} maxAttempts
 * @property {string|null} error
 * @property {any} result
 * @property {{value: number, message: string|null}|null} progress
 * @property {string} createdAt
 * @property {string|null} startedAt
 * @property {string|null} completedAt
 * @property {string|null} scheduledFor
 * @property {string} createdBy
 * @property {string|null} uniqueKey
 * @property {number} timeout
 * @property {string[]} tags
 * @property {number} version
 * @property {boolean} cancelRequested
 * @property {string[]} [omitted]
 */

/** @type {Status[]} */
export const STATUSES = ["pending", "running", "retrying", "completed", "failed", "cancelled"];

/** How a status looks: never by colour alone. */
export const GLYPHS = {
  pending: "·",
  running: "▶",
  retrying: "↻",
  completed: "✔",
  failed: "✘",
  cancelled: "∅",
};

export const TERMINAL = new Set(["completed", "failed", "cancelled"]);

/**
 * Whether the server would take the action on a job of that status.
 * @param {"retry"|"cancel"|"delete"} action
 * @param {Pick<Job, "status"|"cancelRequested">} job
 */
export function allowed(action, job) {
  if (action === "retry") return TERMINAL.has(job.status);
  if (action === "cancel") return !TERMINAL.has(job.status) && !job.cancelRequested;
  return job.status !== "running";
}

/**
 * What a job most likely becomes by an action, shown until the server has answered. Null: it is gone.
 * @param {"retry"|"cancel"|"delete"} action
 * @param {Job} job
 * @returns {Partial<Job>|null}
 */
export function expected(action, job) {
  if (action === "delete") return null;
  if (action === "retry") return { status: "pending", attempts: 0, error: null, progress: null };
  return job.status === "running" ? { cancelRequested: true } : { status: "cancelled" };
}
