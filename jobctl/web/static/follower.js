/**
 * The page's end of the stream, without I/O: what to send, what to hand on, where the reader is (the same part as
 * `protocol/subscriber.py`). Whoever owns the socket drives one `Follower` over any number of connections:
 *
 *   opened(now)            a connection stands
 *   receive(text, now)     a message came: do what is returned, in order
 *   tick(now)              some time has passed: do what is returned
 *   closed(code, draw)     the connection is gone, or could not be made: when to come back (ms)
 *
 * @typedef {{epoch: string, seq: number}} Position
 * @typedef {{do: "send", text: string}
 *   | {do: "sign in"} | {do: "renew"} | {do: "refused"}
 *   | {do: "deliver", message: any}
 *   | {do: "live"}
 *   | {do: "stale"}
 *   | {do: "drop"}} Output
 *   "stale": updates were lost; fetch lists, then send what `rebase` returns. "drop": the peer is dead.
 */
const BASE_MS = 500;
const CAP_MS = 10_000;
/** So much silence is asked about, and so much without an answer is told: within 2 s the indicator is true. */
const PING_AFTER_MS = 700;
const ANSWER_MS = 900;
const DEAD_MS = 8000;
const GREETING_MS = 10_000;
const STEADY_MS = 5000;
/** Events before the list's own place that the first subscription asks for: the charts begin with them. */
const BACKFILL = 2000;
/** A replay longer than this costs more than the lists that it would bring up to date. */
const MAX_REPLAY = 20_000;
/** Close codes after which coming back soon is of no use. */
const SLOW_CODES = new Set([4400, 4403, 1009]);
export const UNAUTHORIZED = 4401;

export class Follower {
  constructor() {
    /** @type {"closed"|"greeting"|"signing in"|"waiting"|"subscribing"|"live"|"stale"} */
    this.phase = "closed";
    /** @type {Position|null} */
    this.position = null;
    /** Whether to follow schedules and workers, which are for admins. */
    this.all = false;
    this.silent = false;
    this.failures = 0;
    /** @type {Map<string, number>} followed logs, and the last line of each */
    this.logs = new Map();
    this.backfill = 0;
    /** Since when the server owes an answer; 0: the next tick says. */
    this.askedAt = 0;
    this.liveAt = 0;
    this.heardAt = 0;
    this.pingedAt = 0;
  }

  /** @param {number} now */
  opened(now) {
    this.phase = "greeting";
    this.askedAt = this.heardAt = now;
    this.pingedAt = this.liveAt = 0;
    this.silent = false;
  }

  /** @param {string} token */
  signIn(token) {
    return JSON.stringify({ type: "auth", token });
  }

  /**
   * The state at `position` has been fetched for the first time: follow from there, and from a little before.
   * @param {Position} position
   * @returns {Output[]}
   */
  begin(position) {
    this.position = { epoch: position.epoch, seq: Math.max(0, position.seq - BACKFILL) };
    this.backfill = position.seq;
    return this.phase === "waiting" ? [this.#subscribe()] : [];
  }

  /**
   * The state at `position` has been fetched again: go on from there.
   * @param {Position} position
   * @returns {Output[]}
   */
  rebase(position) {
    this.position = position;
    this.backfill = 0;
    return this.phase === "stale" || this.phase === "waiting" ? [this.#subscribe()] : [];
  }

  /**
   * @param {string} text
   * @param {number} now
   * @returns {Output[]}
   */
  receive(text, now) {
    this.heardAt = now;
    this.pingedAt = 0;
    this.silent = false;
    const message = JSON.parse(text);
    switch (message.type) {
      case "auth_required":
        this.phase = "signing in";
        return [{ do: "sign in" }];
      case "connected":
        if (this.phase !== "signing in") return [{ do: "deliver", message }];
        this.phase = "waiting";
        return [{ do: "deliver", message }, ...(this.position ? [this.#subscribe()] : [])];
      case "jobs_subscribed":
        return this.#subscribed(message, now);
      case "resync":
        return this.#stale();
      case "auth_failed":
        return [{ do: "refused" }];
      case "token_expiring":
        return [{ do: "renew" }];
      case "pong":
        this.#advance(message.seq);
        return [];
      case "job_update":
      case "job_deleted":
      case "jobs_pruned":
        if (this.phase !== "live" || !this.position || message.seq <= this.position.seq) return [];
        this.#advance(message.seq);
        return [{ do: "deliver", message }];
      case "job_log":
        return this.#lines(message);
      case "job_stats_update":
      case "schedules_update":
      case "workers_update":
        return this.phase === "live" ? [{ do: "deliver", message }] : [];
      default:
        return []; // a newer server's
    }
  }

  /**
   * @param {number} now
   * @returns {Output[]}
   */
  tick(now) {
    if (this.phase === "closed") return [];
    if (this.phase === "waiting" || this.phase === "stale") return [];
    if (this.phase !== "live") {
      this.askedAt ||= now;
      return now - this.askedAt > GREETING_MS ? [{ do: "drop" }] : [];
    }
    if (this.pingedAt) {
      this.silent = now - this.pingedAt >= ANSWER_MS;
      return now - this.pingedAt >= DEAD_MS ? [{ do: "drop" }] : [];
    }
    if (now - this.heardAt < PING_AFTER_MS) return [];
    this.pingedAt = now;
    return [{ do: "send", text: '{"type":"ping"}' }];
  }

  /**
   * @param {number|null} code
   * @param {number} draw in [0, 1)
   * @param {number} now
   * @returns {number} ms to wait
   */
  closed(code, draw, now) {
    const steady = this.liveFor(now) >= STEADY_MS;
    this.phase = "closed";
    this.liveAt = 0; // the tries that follow are not steady by what was before
    this.silent = false;
    this.failures = steady ? 1 : this.failures + 1;
    if (code !== null && SLOW_CODES.has(code)) return CAP_MS;
    return draw * Math.min(CAP_MS, BASE_MS * 2 ** Math.min(this.failures - 1, 10));
  }

  /** How long this connection has been live, in ms. @param {number} now */
  liveFor(now) {
    return this.liveAt > 0 ? now - this.liveAt : 0;
  }

  /**
   * Follow a log from its start on.
   * @param {string} id
   * @returns {Output[]}
   */
  follow(id) {
    this.logs.set(id, 0);
    return this.phase === "live" ? [this.#log(id)] : [];
  }

  /**
   * @param {string} id
   * @returns {Output[]}
   */
  unfollow(id) {
    return this.logs.delete(id) && this.phase === "live"
      ? [{ do: "send", text: JSON.stringify({ type: "unsubscribe_logs", id }) }]
      : [];
  }

  /** @returns {Output} */
  #subscribe() {
    this.phase = "subscribing";
    this.askedAt = 0;
    const { seq, epoch } = /** @type {Position} */ (this.position);
    return {
      do: "send",
      text: JSON.stringify({ type: "subscribe_jobs", since: seq, epoch, stats: true, schedules: this.all, workers: this.all }),
    };
  }

  /** @param {string} id @returns {Output} */
  #log(id) {
    return { do: "send", text: JSON.stringify({ type: "subscribe_logs", id, after: this.logs.get(id) }) };
  }

  /**
   * @param {{seq: number, head: number, epoch: string, recovered: boolean}} message
   * @param {number} now
   * @returns {Output[]}
   */
  #subscribed(message, now) {
    if (this.phase !== "subscribing") return [];
    const backfill = this.backfill;
    this.backfill = 0;
    if (!message.recovered && backfill && this.position && this.position.seq < backfill) {
      this.position = { epoch: this.position.epoch, seq: backfill }; // the log is shorter than the charts
      return [this.#subscribe()];
    }
    if (!message.recovered || message.head - message.seq > MAX_REPLAY) return this.#stale();
    this.phase = "live";
    this.liveAt ||= now;
    return [{ do: "live" }, ...[...this.logs.keys()].map((id) => this.#log(id))];
  }

  /** @returns {Output[]} */
  #stale() {
    if (this.phase === "stale") return [];
    this.phase = "stale";
    return [{ do: "stale" }];
  }

  /** @param {{id: string, lines: {n: number}[]}} message @returns {Output[]} */
  #lines(message) {
    const after = this.logs.get(message.id);
    if (after === undefined) return [];
    const lines = message.lines.filter((line) => line.n > after);
    if (!lines.length) return [];
    this.logs.set(message.id, /** @type {{n: number}} */ (lines.at(-1)).n);
    return [{ do: "deliver", message: { ...message, lines } }];
  }

  /** @param {number} seq */
  #advance(seq) {
    if (this.phase === "live" && this.position && seq > this.position.seq)
      this.position = { epoch: this.position.epoch, seq };
  }
}
