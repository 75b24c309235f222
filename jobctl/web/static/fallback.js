/**
 * Where no WebSocket can be had: when to give up on them, the long poll in their place, and when to try them again.
 *
 * Something on the way may refuse the handshake, let it through and pass nothing on, or cut what it has let through: so
 * it counts whether connections have been of use, not whether they were opened. What tells such a proxy from a server
 * that is away is a plain request that goes through, twice, with one more try of a connection between.
 */

/** A connection that was live for so long has been of use; shorter ones cost more than they bring. */
const OF_USE_MS = 10_000;
/** So many in a row that were of none, before a plain request is tried; more where others have been of use. */
const ENOUGH = 2;
const ENOUGH_AFTER_USE = 8;
/** Beside the long poll a connection is tried after so long, then after twice as long, and so on. */
const AGAIN_MS = 60_000;
const AGAIN_CAP_MS = 600_000;
const WAIT_S = 20;
/** What takes longer than that is held by something on the way: no answer comes any more. */
const ANSWER_S = WAIT_S + 5;
const LIMIT = 500;
const PAUSE_MS = 2000;
const GOING_AWAY = 1001;
const FIRST_OWN_CODE = 4000;

export class Fallback {
  constructor() {
    /** Whether to ask by long poll. */
    this.polling = false;
    this.failures = 0;
    this.used = false;
    this.suspected = false;
    this.trials = 0;
  }

  /**
   * A connection is gone, or could not be made.
   * @param {number|null} code what the server gave as its reason is no proxy's doing
   * @param {number} liveMs how long it was live
   */
  closed(code, liveMs) {
    if (!this.left(liveMs) && (code === null || (code !== GOING_AWAY && code < FIRST_OWN_CODE))) this.failures += 1;
  }

  /**
   * It was let go of from here: no failure.
   * @param {number} liveMs
   * @returns {boolean} whether it has been of use; then all suspicion ends
   */
  left(liveMs) {
    if (liveMs < OF_USE_MS) return false;
    Object.assign(this, new Fallback());
    return (this.used = true);
  }

  /** It is time for a plain request. */
  get doubtful() {
    return this.failures >= (this.used ? ENOUGH_AFTER_USE : ENOUGH);
  }

  /**
   * What to do after the plain request.
   * @param {boolean} works it went through
   * @returns {"wait"|"connect"|"poll"} "connect": the server may just have come back
   */
  asked(works) {
    const before = this.suspected;
    this.suspected = works;
    this.polling = works && before;
    return this.polling ? "poll" : works ? "connect" : "wait";
  }

  /** The long poll fails as well: it is the server that is away. */
  away() {
    this.polling = this.suspected = false;
    this.failures = 0;
  }

  /** ms until a connection is tried beside the long poll */
  again() {
    return Math.min(AGAIN_CAP_MS, AGAIN_MS * 2 ** this.trials++);
  }
}

/**
 * The same events by long poll. Counts, schedules and logs are no events: the owner asks for those when something has
 * come.
 */
export class Poll {
  /**
   * @param {import("./api.js").Api} api
   * @param {import("./stream.js").Stream} stream
   */
  constructor(api, stream) {
    this.api = api;
    this.stream = stream;
    /** @type {AbortController|null} */
    this.running = null;
  }

  get active() {
    return this.running !== null;
  }

  /** Whether plain requests go through where the WebSocket did not. */
  async works() {
    try {
      await this.api.get(this.#path(0, 1));
      return true;
    } catch {
      return false;
    }
  }

  start() {
    this.stop();
    this.running = new AbortController();
    void this.#run(this.running);
  }

  stop() {
    this.running?.abort();
    this.running = null;
  }

  /** @param {AbortController} mine */
  async #run(mine) {
    this.stream.owner.polled();
    while (this.running === mine) {
      const { follower, owner } = this.stream;
      try {
        const { data } = await this.api.get(
          this.#path(WAIT_S, LIMIT),
          AbortSignal.any([mine.signal, AbortSignal.timeout(ANSWER_S * 1000)]),
        );
        if (this.running !== mine) return;
        if (!data.recovered) {
          this.stream.lost();
          await pause(PAUSE_MS);
          continue;
        }
        for (const message of data.events) owner.deliver(message);
        const at = data.position.lastIndexOf(":");
        follower.position = { epoch: data.position.slice(0, at), seq: Number(data.position.slice(at + 1)) };
        if (data.events.length) {
          owner.polled();
          await pause(PAUSE_MS / 4);
        }
      } catch {
        if (this.running !== mine) return;
        this.stop();
        this.stream.away();
      }
    }
  }

  /** @param {number} wait @param {number} limit */
  #path(wait, limit) {
    const { epoch, seq } = /** @type {import("./follower.js").Position} */ (this.stream.follower.position);
    return `/api/events?since=${encodeURIComponent(`${epoch}:${seq}`)}&wait=${wait}&limit=${limit}`;
  }
}

/** @param {number} ms */
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
