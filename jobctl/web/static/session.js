/**
 * Who is signed in. The access token is in memory only; a session (by a one-time link) renews it by its cookie, which
 * no script can read. A pasted token is used as long as it lives.
 *
 * @typedef {{subject: string, role: "admin"|"user"}} Who
 */
import { ApiError } from "./api.js";

/** Renewed so long before its end (never before half of its life): a machine that sleeps may wake up late. */
const AHEAD_S = 120;
const RETRY_MS = 5000;

export class Session {
  /** @param {import("./api.js").Api} api */
  constructor(api) {
    this.api = api;
    /** Signed in (null), or out, and why. @type {(reason: string|null) => void} */
    this.changed = () => undefined;
    /** The token is another one. */
    this.renewed = () => undefined;
    /** @type {Who|null} */
    this.who = null;
    /** Why nobody is signed in; null: not known yet, or somebody is. @type {string|null} */
    this.out = null;
    this.pasted = false;
    this.timer = 0;
    /** @type {Promise<boolean>|null} */
    this.renewing = null;
    this.freshUntil = 0;
    /** When it is to be renewed, by the wall clock: the other one stands still while a machine sleeps. */
    this.dueAt = 0;
    /** Counts who has come and gone: what was asked for one of before is not theirs who is there now. */
    this.turn = 0;
    api.renew = () => this.renew();
  }

  /** Sign in by the code of a link, else by the cookie of a session; tells why not. @param {string|null} code */
  async start(code) {
    try {
      if (code) this.#take((await this.api.send("POST", "/api/auth/login", { body: { code }, open: true })).data);
      else this.#take((await this.api.send("POST", "/api/auth/refresh", { open: true })).data);
    } catch (error) {
      const known = error instanceof ApiError;
      if (code && known && error.status === 401) {
        try {
          this.#take((await this.api.send("POST", "/api/auth/refresh", { open: true })).data);
        } catch {
          this.#out("This link has been used, or is older than five minutes. Make a new one: jobctl open");
        }
        return;
      }
      this.#out(known && error.status !== 401 ? error.message : "");
    }
  }

  /** @param {string} token */
  async paste(token) {
    this.api.token = token.trim().replace(/^Bearer\s+/i, "");
    this.pasted = true;
    try {
      const { data } = await this.api.get("/api/server");
      this.who = { subject: data.subject, role: data.role };
      this.out = null;
    } catch (error) {
      this.api.token = null;
      this.pasted = false;
      throw error;
    }
    this.changed(null);
  }

  /**
   * Get a new access token; false: there is none to be had, and one is signed out. Many callers share one request. A
   * tab that nobody looks at gets none before it is shown (`awake`).
   */
  async renew() {
    if (document.hidden) {
      this.dueAt = 0;
      return false;
    }
    this.renewing ??= this.#renew().finally(() => (this.renewing = null));
    return this.renewing;
  }

  /** As `renew`, where the token is in the second half of its life. A pasted one is used to its end. */
  renewIfOld() {
    if (!this.pasted && performance.now() > this.freshUntil) void this.renew();
  }

  /** The tab is looked at: what has come due behind another one is done before anything else. */
  async awake() {
    if (this.who && !this.pasted && Date.now() >= this.dueAt) await this.renew();
  }

  async #renew() {
    if (this.pasted) this.#out("The token that you pasted has ended, or was revoked.");
    if (!this.who) return false;
    const { turn } = this;
    try {
      const { data } = await this.api.send("POST", "/api/auth/refresh", { open: true });
      if (turn !== this.turn) return false;
      this.#take(data);
      return true;
    } catch (error) {
      if (turn !== this.turn) return false;
      if (error instanceof ApiError && (error.status === 401 || error.status === 403))
        this.#out("Your session has ended.");
      else this.#later(RETRY_MS);
      return false;
    }
  }

  async signOut() {
    const pasted = this.pasted;
    this.#out("");
    if (!pasted) await this.api.send("POST", "/api/auth/logout", { open: true }).catch(() => undefined);
  }

  /** Somebody has signed out in another tab. */
  forget() {
    if (this.who) this.#out("");
  }

  /** @param {{accessToken: string, expiresAt: string, subject: string, role: "admin"|"user"}} grant */
  #take(grant) {
    const first = this.who?.subject !== grant.subject || this.who.role !== grant.role;
    this.api.token = grant.accessToken;
    this.pasted = false;
    this.who = { subject: grant.subject, role: grant.role };
    this.out = null;
    const life = lifetime(grant.accessToken) * 1000;
    const ahead = Math.max(life / 2, life - AHEAD_S * 1000);
    this.freshUntil = performance.now() + life / 2;
    this.#later(ahead);
    if (first) this.changed(null);
    else this.renewed();
  }

  /** @param {number} ms */
  #later(ms) {
    clearTimeout(this.timer);
    this.dueAt = Date.now() + ms;
    this.timer = setTimeout(() => void this.renew(), ms);
  }

  /** @param {string} reason */
  #out(reason) {
    clearTimeout(this.timer);
    this.turn += 1;
    this.api.token = null;
    this.who = null;
    this.out = reason;
    this.pasted = false;
    this.changed(reason);
  }
}

/** Seconds that a token lives in all; by its own words, so that no clock but the server's counts. @param {string} token */
function lifetime(token) {
  try {
    const claims = JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")));
    return Math.max(2, claims.exp - claims.iat);
  } catch {
    return 600;
  }
}
