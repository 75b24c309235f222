/** What was done here, as the command that does the same in a terminal. Pure. */

/**
 * One argument for a POSIX shell.
 * @param {string} text
 */
export function quote(text) {
  if (/^[A-Za-z0-9_@%+=:,./-]+$/.test(text)) return text;
  return `'${text.replace(/'/g, `'\\''`)}'`;
}

/**
 * `jobctl enqueue` for what `POST /api/jobs` would be sent.
 * @param {{name: string, data?: any, queue?: string, priority?: number, delay?: number, scheduledFor?: string, maxAttempts?: number|null, timeout?: number|null, uniqueKey?: string|null, tags?: string[]}} job
 */
export function enqueue(job) {
  const words = ["jobctl", "enqueue", job.name];
  const option = (/** @type {string} */ name, /** @type {string|number|null|undefined} */ value) => {
    if (value !== undefined && value !== null && value !== "") words.push(`--${name}`, String(value));
  };
  if (job.data && Object.keys(job.data).length) option("data", JSON.stringify(job.data));
  if (job.queue !== "default") option("queue", job.queue);
  if (job.priority) words.push(`--priority=${job.priority}`);
  option("delay", job.delay);
  option("at", job.scheduledFor);
  option("max-attempts", job.maxAttempts);
  option("timeout", job.timeout);
  if (job.uniqueKey) words.push(`--unique=${job.uniqueKey}`);
  for (const tag of job.tags ?? []) words.push(`--tag=${tag}`);
  return words.map(quote).join(" ");
}

/**
 * `jobctl enqueue` that makes a job like this one.
 * @param {import("./states.js").Job} job whole
 */
export function again(job) {
  return enqueue({
    ...job,
    scheduledFor: undefined,
    maxAttempts: job.maxAttempts === 3 ? null : job.maxAttempts,
    timeout: job.timeout === 3600 ? null : job.timeout,
  });
}

/**
 * @param {"retry"|"cancel"|"delete"} action
 * @param {string[]} ids
 */
export const act = (action, ids) => ["jobctl", "jobs", action, ...ids].map(quote).join(" ");
