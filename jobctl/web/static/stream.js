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
import { Follower, UNAUTHORIZED } from "./follower.js";
import { Poll } from "./poll.js";

const PATH = "/api/notifications/ws";
const TICK_MS = 250;
/** Tries that never opened, one after the other, before plain requests are tried; more where sockets have worked. */
const REFUSALS = 2;
const REFUSALS_AFTER_LIVE = 8;
const SOCKET_AGAIN_MS = 60_000;
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
    this.running = false;
    this.refusals = 0;
    this.worked = false;
    /** A plain request went through where the socket did not: if the next socket fails as well, it is forbidden. */
    this.suspected = false;
    this.timers = { retry: 0, tick: 0, hide: 0 };
    document.addEventListener("visibilitychange", () => this.#seen());
    addEventListener("pageshow", (event) => event.persisted && this.#seen());
    addEventListener("online", () => this.retry());
    addEventListener("offline", () => this.#lost());
  }

  /** @param {boolean} schedules whether to follow schedules too */
  start(schedules) {
    this.follower = new Follower();
    this.follower.schedules = schedules;
    this.running = true;
    this.refusals = 0;
    this.suspected = false;
    this.#connect();
    this.timers.tick = setInterval(() => this.#tick(), TICK_MS);
    this.#seen(); // it may have been opened behind another tab
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
    if (this.running && !this.socket && this.link.kind !== "paused" && this.link.kind !== "polling") this.#connect();
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
    if (this.link.kind !== "polling") this.#say({ kind: "connecting" });
    const socket = new WebSocket(PATH.replace(/^/, location.origin.replace(/^http/, "ws")));
    this.socket = socket;
    let opened = false;
    socket.onopen = () => {
      opened = true;
      this.refusals = 0;
      this.worked = true;
      this.suspected = false;
      this.api.bill.connections += 1;
      this.poll.stop();
      this.follower.opened(performance.now());
    };
    socket.onmessage = (event) =>
      this.socket === socket && this.#perform(this.follower.receive(event.data, performance.now()));
    socket.onclose = (event) => {
      if (this.socket !== socket) return;
      this.socket = null;
      if (!opened) this.refusals += 1;
      void this.#closed(event.code === 1006 ? null : event.code);
    };
  }

  /** @param {number|null} code */
  async #closed(code) {
    const delay = this.follower.closed(code, Math.random(), performance.now());
    if (!this.running) return;
    if (this.poll.active) {
      this.timers.retry = setTimeout(() => this.#connect(), SOCKET_AGAIN_MS);
      return;
    }
    if (code === UNAUTHORIZED && !(await this.session.renew())) {
      if (!this.running) return; // signed out
    }
    const enough = this.worked ? REFUSALS_AFTER_LIVE : REFUSALS;
    if (this.refusals >= enough && this.follower.position && navigator.onLine && (await this.poll.works())) {
      if (!this.running || this.socket || this.link.kind === "paused") return;
      if (!this.suspected) {
        this.suspected = true; // or the server has just come back
        return this.#connect();
      }
      this.#say({ kind: "polling" });
      this.poll.start();
      this.timers.retry = setTimeout(() => this.#connect(), SOCKET_AGAIN_MS);
      return;
    }
    if (!this.running || this.socket || this.link.kind === "paused") return;
    this.#say(navigator.onLine ? { kind: "waiting", until: performance.now() + delay } : { kind: "offline" });
    clearTimeout(this.timers.retry);
    this.timers.retry = setTimeout(() => this.#connect(), delay);
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
      }
      else if (output.do === "live") this.#say({ kind: "live" });
      else if (output.do === "drop") {
        this.#drop();
        void this.#closed(null);
      }
    }
  }

  #tick() {
    if (document.hidden) return;
    if (this.socket) this.#perform(this.follower.tick(performance.now()));
    if (this.link.kind === "live" && this.follower.silent) this.#say({ kind: "silent" });
    else if (this.link.kind === "silent" && !this.follower.silent && this.follower.phase === "live")
      this.#say({ kind: "live" });
    else if (this.link.kind === "waiting") this.owner.changed();
  }

  /** The system says that there is no network: what is open may be dead without knowing. */
  #lost() {
    if (!this.running || this.link.kind === "paused") return;
    this.#drop();
    this.follower.closed(null, 0, performance.now());
    this.#say({ kind: "offline" });
  }

  /** A hidden tab lets go of its connection after a while, and resumes by position when it is shown. */
  #seen() {
    clearTimeout(this.timers.hide);
    if (!this.running) return;
    if (document.hidden) {
      this.timers.hide = setTimeout(() => {
        this.#say({ kind: "paused" });
        clearTimeout(this.timers.retry);
        this.poll.stop();
        this.#drop();
        this.follower.closed(1000, 0, performance.now());
        this.follower.failures = 0;
      }, HIDDEN_MS);
    } else if (!this.socket) {
      this.refusals = 0;
      this.#say({ kind: "connecting" });
      this.#connect();
    }
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
