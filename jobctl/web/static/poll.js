/**
 * The same events by long poll, for where a proxy forbids WebSockets or cuts them. Counts, schedules and logs are no events: the
 * owner asks for those when something has come.
 */
const WAIT_S = 20;
const LIMIT = 500;
const PAUSE_MS = 2000;

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
        const { data } = await this.api.get(this.#path(WAIT_S, LIMIT), mine.signal);
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
