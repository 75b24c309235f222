/**
 * The live connection: a WebSocket driven by a `Follower`, and the long poll where no WebSocket can be had.
 *
 * @typedef {object} Link what the indicator says
 * @property {"connecting"|"live"|"catching up"|"silent"|"waiting"|"offline"|"polling"|"paused"|"closed"} kind
 * @property {number} [until] when the next try is (ms, `performance.now`)
 *
 * @typedef {object} Owner
 * @property {(message: any) => void} deliver
 * @property {() => void} stale    lists have to be fetched again; then call `rebase`
 * @property {() => void} changed  `link` is another
 * @property {() => void} polled   a long poll brought something: what no event carries has to be asked for
 */
import { Fallback, Poll } from "./fallback.js";
import { Follower, UNAUTHORIZED } from "./follower.js";

const PATH = "/api/notifications/ws";
const TICK_MS = 250;
/** A handshake that takes longer is held by something on the way; browsers wait for minutes. */
const HANDSHAKE_MS = 10_000;
/** A tab that is looked at again so soon has kept its connection. */
const HIDDEN_MS = 15_000;

export class Stream {
  /**
   * @param {import("./api.js").Api} api
   * @param {import("./session.js").Session} session
   * @param {Owner} owner
   */
  constructor(api, session, owner) {
    this.api = api;
    this.session = session;
    this.owner = owner;
    this.follower = new Follower();
    this.poll = new Poll(api, this);
    /** @type {Link} */
    this.link = { kind: "closed" };
    /** @type {WebSocket|null} */
    this.socket = null;
    this.startedAt = 0;
    this.fallback = new Fallback();
    this.running = false;
    this.timers = { retry: 0, tick: 0, hide: 0 };
    document.addEventListener("visibilitychange", () => void this.#seen());
    addEventListener("pageshow", (event) => event.persisted && void this.#seen());
    addEventListener("online", () => this.retry());
    addEventListener("offline", () => this.#lost());
  }

  /** @param {boolean} all whether to follow schedules and workers too */
  start(all) {
    this.follower = new Follower();
    this.follower.all = all;
    this.fallback = new Fallback();
    this.running = true;
    this.#connect();
    this.#ticks();
    if (document.hidden) void this.#seen(); // it was opened behind another tab
  }

  stop() {
    this.running = false;
    for (const timer of Object.values(this.timers)) clearTimeout(timer);
    this.poll.stop();
    this.#drop();
    this.#say({ kind: "closed" });
  }

  /** Try now rather than later. */
  retry() {
    if (this.running && !this.socket && this.link.kind !== "paused") this.#connect();
  }

  /** The long poll fails as well. */
  away() {
    this.fallback.away();
    this.#say({ kind: "connecting" });
    this.#connect();
  }

  /** The long poll cannot go on from where it was. */
  lost() {
    this.#drop();
    this.#tryLater();
    this.follower.phase = "waiting";
    this.owner.stale();
  }

  /** @param {import("./follower.js").Position} position */
  begin(position) {
    this.#perform(this.follower.begin(position));
  }

  /** @param {import("./follower.js").Position} position */
  rebase(position) {
    this.#perform(this.follower.rebase(position));
  }

  /** @param {string} id */
  follow(id) {
    this.#perform(this.follower.follow(id));
  }

  /** @param {string} id */
  unfollow(id) {
    this.#perform(this.follower.unfollow(id));
  }

  /** The session has another token: the open connection takes it. */
  renewed() {
    if (this.socket?.readyState === WebSocket.OPEN && this.api.token && this.follower.phase !== "greeting")
      this.socket.send(this.follower.signIn(this.api.token));
  }

  #connect() {
    clearTimeout(this.timers.retry);
    if (!this.running || this.socket) return;
    if (!this.poll.active) this.#say({ kind: "connecting" });
    const socket = new WebSocket(PATH.replace(/^/, location.origin.replace(/^http/, "ws")));
    this.socket = socket;
    this.startedAt = performance.now();
    socket.onopen = () => {
      this.api.bill.connections += 1;
      this.follower.opened(performance.now());
    };
    socket.onmessage = (event) =>
      this.socket === socket && this.#perform(this.follower.receive(event.data, performance.now()));
    socket.onclose = (event) => {
      if (this.socket !== socket) return;
      this.socket = null;
      void this.#closed(event.code === 1006 ? null : event.code);
    };
  }

  /** @param {number|null} code */
  async #closed(code) {
    const now = performance.now();
    this.fallback.closed(code, this.follower.liveFor(now));
    const delay = this.follower.closed(code, Math.random(), now);
    if (!this.running) return;
    if (document.hidden) return this.#pause(); // what is lost unseen can wait until it is seen
    if (this.fallback.polling) return this.#ask();
    if (code === UNAUTHORIZED) await this.session.renew();
    else if (this.fallback.doubtful && this.follower.position && navigator.onLine) {
      const next = this.fallback.asked(await this.poll.works());
      if (!this.#idle) return;
      if (next === "connect") return this.#connect();
      if (next === "poll") return this.#ask();
    }
    if (!this.#idle) return;
    this.#say(navigator.onLine ? { kind: "waiting", until: performance.now() + delay } : { kind: "offline" });
    clearTimeout(this.timers.retry);
    this.timers.retry = setTimeout(() => this.#connect(), delay);
  }

  /** Nothing has been begun while something was waited for. */
  get #idle() {
    return this.running && !this.socket && this.link.kind !== "paused";
  }

  /** By long poll, until a connection that is tried now and then goes live. */
  #ask() {
    this.#say({ kind: "polling" });
    if (!this.poll.active) this.poll.start();
    this.#tryLater();
  }

  #tryLater() {
    clearTimeout(this.timers.retry);
    this.timers.retry = setTimeout(() => this.#connect(), this.fallback.again());
  }

  /** @param {import("./follower.js").Output[]} outputs */
  #perform(outputs) {
    for (const output of outputs) {
      if (output.do === "send") this.socket?.send(output.text);
      else if (output.do === "deliver") this.owner.deliver(output.message);
      else if (output.do === "sign in") this.socket?.send(this.follower.signIn(this.api.token ?? ""));
      else if (output.do === "renew") this.session.renewIfOld();
      else if (output.do === "stale") {
        this.#say({ kind: "catching up" });
        this.owner.stale();
      } else if (output.do === "live") {
        this.poll.stop();
        this.#say({ kind: "live" });
      } else if (output.do === "drop") this.#giveUp();
    }
  }

  #ticks() {
    clearInterval(this.timers.tick);
    this.timers.tick = setInterval(() => this.#tick(), TICK_MS);
  }

  #tick() {
    if (document.hidden) return;
    const now = performance.now();
    if (this.socket?.readyState === WebSocket.CONNECTING && now - this.startedAt > HANDSHAKE_MS) this.#giveUp();
    else if (this.socket) this.#perform(this.follower.tick(now));
    if (this.link.kind === "live" && this.follower.silent) this.#say({ kind: "silent" });
    else if (this.link.kind === "silent" && !this.follower.silent && this.follower.phase === "live")
      this.#say({ kind: "live" });
    else if (this.link.kind === "waiting") this.owner.changed();
  }

  /** The system says that there is no network: what is open may be dead without knowing. */
  #lost() {
    if (!this.running || this.link.kind === "paused") return;
    clearTimeout(this.timers.retry);
    this.poll.stop();
    this.#drop();
    const now = performance.now();
    this.fallback.left(this.follower.liveFor(now));
    this.follower.closed(null, 0, now);
    this.#say({ kind: "offline" });
  }

  /** A hidden tab lets go of its connection after a while; shown, it renews its token where that is due, and resumes. */
  async #seen() {
    clearTimeout(this.timers.hide);
    if (!this.running) return;
    if (document.hidden) {
      this.timers.hide = setTimeout(() => this.#pause(), HIDDEN_MS);
      return;
    }
    if (this.link.kind === "paused") {
      this.#say({ kind: "connecting" });
      this.#ticks();
    }
    await this.session.awake();
    if (document.hidden || !this.#idle || this.poll.active) return;
    if (this.fallback.polling) this.#ask();
    else this.#connect();
  }

  #pause() {
    for (const timer of Object.values(this.timers)) clearTimeout(timer);
    this.#say({ kind: "paused" });
    this.poll.stop();
    this.#drop();
    const now = performance.now();
    this.fallback.left(this.follower.liveFor(now));
    this.follower.closed(1000, 0, now);
    this.follower.failures = 0;
  }

  #giveUp() {
    this.#drop();
    void this.#closed(null);
  }

  #drop() {
    const socket = this.socket;
    this.socket = null;
    socket?.close(1000);
  }

  /** @param {Link} link */
  #say(link) {
    this.link = link;
    this.owner.changed();
  }
}
