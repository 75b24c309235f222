/**
 * When to give up on WebSockets and ask by long poll, and when to try them again. Pure.
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
