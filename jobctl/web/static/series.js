/**
 * What happened in the last minutes, in buckets of some seconds, from the events of the stream. Pure.
 *
 * A run's start is the update whose own time is the job's `startedAt`, its end the one whose time is `completedAt`;
 * other updates of a running job are progress. How long a job waited is known where the stream has shown since when it
 * was ready, or where this is its first run.
 */
const STEP_S = 5;
const STEPS = 60;
const MAX_READY = 20_000;
/** Waits that one bucket keeps for its median. */
const MAX_WAITS = 500;

/** @typedef {{completed: number, failed: number, waits: number[], queues: Map<string, number>}} Bucket */

export class Series {
  constructor() {
    /** @type {Map<number, Bucket>} by number of the step */
    this.buckets = new Map();
    /** @type {Map<string, number>} since when a job has been ready, ms */
    this.ready = new Map();
  }

  /**
   * @param {import("./states.js").Job} job
   * @param {string} timestamp of the event
   */
  take(job, timestamp) {
    const at = Date.parse(timestamp);
    if (job.status === "pending" || job.status === "retrying") {
      if (job.status === "retrying") this.#bucket(at).failed += 1;
      this.#noteReady(job, at);
    } else if (job.status === "running") {
      if (job.startedAt === timestamp) this.#noteStart(job, at);
    } else {
      this.ready.delete(job.id);
      if (job.completedAt !== timestamp) return;
      const bucket = this.#bucket(at);
      if (job.status === "completed") bucket.completed += 1;
      if (job.status === "failed") bucket.failed += 1;
      if (job.status !== "cancelled") bucket.queues.set(job.queue, (bucket.queues.get(job.queue) ?? 0) + 1);
    }
  }

  /** @param {import("./states.js").Job} job @param {number} at */
  #noteReady(job, at) {
    if (this.ready.size >= MAX_READY) this.ready.delete(/** @type {string} */ (this.ready.keys().next().value));
    this.ready.set(job.id, Math.max(at, job.scheduledFor ? Date.parse(job.scheduledFor) : 0));
  }

  /** @param {import("./states.js").Job} job @param {number} at */
  #noteStart(job, at) {
    let since = this.ready.get(job.id);
    this.ready.delete(job.id);
    if (since === undefined && job.attempts === 0 && job.version <= 2)
      since = Math.max(Date.parse(job.createdAt), job.scheduledFor ? Date.parse(job.scheduledFor) : 0);
    if (since === undefined) return;
    const waits = this.#bucket(at).waits;
    if (waits.length < MAX_WAITS) waits.push(Math.max(0, at - since) / 1000);
  }

  /** @param {number} at @returns {Bucket} */
  #bucket(at) {
    const step = Math.floor(at / 1000 / STEP_S);
    let bucket = this.buckets.get(step);
    if (!bucket) {
      bucket = { completed: 0, failed: 0, waits: [], queues: new Map() };
      this.buckets.set(step, bucket);
      for (const old of this.buckets.keys()) if (old < step - 2 * STEPS) this.buckets.delete(old);
    }
    return bucket;
  }

  /**
   * The last five minutes up to `now`, oldest first: a value a step. Rates are per second; a wait is a median, null
   * where nothing started.
   * @param {number} now ms
   */
  lines(now) {
    const last = Math.floor(now / 1000 / STEP_S);
    const completed = [];
    const failed = [];
    const wait = [];
    for (let step = last - STEPS + 1; step <= last; step++) {
      const bucket = this.buckets.get(step);
      completed.push((bucket?.completed ?? 0) / STEP_S);
      failed.push((bucket?.failed ?? 0) / STEP_S);
      wait.push(bucket?.waits.length ? median(bucket.waits) : null);
    }
    return { completed, failed, wait };
  }

  /**
   * Runs of a queue that ended, a step each, as `lines`.
   * @param {string} queue
   * @param {number} now ms
   */
  ended(queue, now) {
    const last = Math.floor(now / 1000 / STEP_S);
    return Array.from(
      { length: STEPS },
      (_, i) => (this.buckets.get(last - STEPS + 1 + i)?.queues.get(queue) ?? 0) / STEP_S,
    );
  }

  /**
   * The mean rate over the last `steps` whole steps, per second.
   * @param {number[]} line
   * @param {number} steps
   */
  static recent(line, steps = 6) {
    const part = line.slice(-steps - 1, -1);
    return part.reduce((sum, each) => sum + each, 0) / part.length;
  }
}

/** @param {number[]} values */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
