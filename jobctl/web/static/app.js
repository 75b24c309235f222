/** The parts of the page, wired together; what a person does goes through here. */
import { ApiError } from "./api.js";
import { FOR_ADMINS, ROWS, listPath, read, same, takeCode, write } from "./filter.js";
import { now, sync } from "./format.js";
import { Painter } from "./painter.js";
import { State } from "./state.js";
import { Stream } from "./stream.js";
import { Tabs } from "./tabs.js";

/** A row that has left stays so long, so that one sees where it went. */
const LEAVING_MS = 1600;
const SNAPSHOT_MS = 1000;
/** A list that could not be had is asked for again. */
const AGAIN_MS = 2000;

export class App {
  /** @param {import("./opening.js").Opening} opening */
  constructor(opening) {
    this.opening = opening;
    this.api = opening.api;
    this.bill = this.api.bill;
    this.session = opening.session;
    this.painter = new Painter();
    this.state = new State(ROWS, (what) => this.painter.mark(what));
    this.stream = new Stream(this.api, this.session, this);
    this.tabs = new Tabs((message) => this.#heard(message));
    this.route = read(location.search);
    /** Cursors of the pages before this one; the browser's history has them too. @type {(string|null)[]} */
    this.behind = history.state?.behind ?? [];
    /** @type {Set<string>} */
    this.selection = new Set();
    this.loading = false;
    this.began = false;
    /** Up to here the list was fetched: what the stream tells of before is for the charts, and no update. */
    this.listed = 0;
    /** A list was wanted while nobody looked at this tab. */
    this.overdue = false;
    this.snapshotAt = 0;
    /** @type {string|null} why the list could not be had */
    this.listError = null;
    /** @type {{id: string, error: ApiError}|null} */
    this.detailError = null;
    addEventListener("hashchange", () => location.hash.includes("code=") && void this.session.start(takeCode()));
    addEventListener("popstate", (event) => {
      this.behind = event.state?.behind ?? [];
      this.#arrive(read(location.search));
    });
    document.addEventListener("visibilitychange", async () => {
      await this.session.awake();
      if (!document.hidden && this.overdue) this.stale();
    });
    this.session.changed = (reason) => this.#identity(reason);
    this.session.renewed = () => this.stream.renewed();
    if (this.who || this.session.out !== null) this.#identity(this.session.out);
  }

  get who() {
    return this.session.who;
  }

  get isAdmin() {
    return this.who?.role === "admin";
  }

  // --- lists and the stream ---------------------------------------------------------------------------------------

  /** Fetch the page of jobs that the route asks for; the stream joins it without a gap. */
  async load() {
    const who = this.who;
    if (!who) return;
    this.overdue = document.hidden && (this.began || this.listError !== null);
    if (this.overdue) return;
    const { filter, cursor } = this.route;
    const ticket = this.state.fetching();
    this.loading = true;
    this.painter.mark("page");
    try {
      const { data, position } = await this.opening.list(listPath(this.route, who.subject));
      if (
        !position ||
        !this.state.loaded(ticket, data, position, { filter, subject: who.subject, first: !cursor }, now())
      )
        return;
      this.listError = null;
      if (!this.began) {
        this.listed = position.seq;
        this.stream.begin(position);
      } else if (this.stream.follower.phase === "stale" || this.stream.follower.phase === "waiting") {
        this.listed = 0;
        this.stream.rebase(position);
      }
      this.began = true;
    } catch (error) {
      if (ticket !== this.state.ticket) return; // another question has been asked meanwhile
      this.state.failed(ticket);
      if (cursor && error instanceof ApiError && error.code === "invalid_cursor")
        return this.go({ cursor: null }, true);
      this.listError = message(error);
      if (error instanceof ApiError && (error.status === 0 || error.status === 429 || error.status >= 500))
        setTimeout(() => this.state.ticket === ticket && void this.load(), AGAIN_MS);
    } finally {
      if (ticket === this.state.ticket) this.loading = false;
      this.painter.mark("page");
    }
  }

  /** @param {any} told a message of the stream */
  deliver(told) {
    if (told.type === "connected") sync(told.timestamp);
    else {
      if (!(told.seq <= this.listed)) this.bill.updates += 1;
      this.state.receive(told, now());
    }
  }

  stale() {
    void this.load();
    const open = this.state.detail;
    if (open && !this.overdue) void this.#loadDetail(open.id);
  }

  changed() {
    this.painter.mark("link");
  }

  /** The long poll brings events only: the counts, and what is open, are asked for, once a second at most. */
  polled() {
    const wait = Math.max(0, this.snapshotAt + SNAPSHOT_MS - Date.now());
    if (wait > SNAPSHOT_MS) return;
    this.snapshotAt = Date.now() + wait;
    setTimeout(async () => {
      const ask = async (/** @type {string} */ path, /** @type {(data: any) => any} */ take) => {
        const { data } = await this.api.get(path);
        this.state.receive(take(data), now());
      };
      try {
        await ask("/api/jobs/stats", (stats) => ({ type: "job_stats_update", stats }));
        if (this.isAdmin && this.route.view === "schedules")
          await ask("/api/jobs/schedules", (data) => ({ type: "schedules_update", ...data }));
        if (this.isAdmin && this.route.view === "workers")
          await ask("/api/workers", (data) => ({ type: "workers_update", ...data }));
        const open = this.state.detail;
        if (open)
          await ask(`/api/jobs/${open.id}/logs?after=${open.lines.at(-1)?.n ?? 0}`, (data) => ({
            type: "job_log",
            id: open.id,
            lines: data.lines,
          }));
      } catch {
        // the next round asks again
      }
    }, wait);
  }

  /** Rows that have left go, and what waits comes in, unless something is held. */
  settle() {
    if (this.state.page.settle(now() - LEAVING_MS)) this.painter.mark("rows");
  }

  // --- where the page is ------------------------------------------------------------------------------------------

  /**
   * @param {Partial<import("./filter.js").Route>} to
   * @param {boolean} [quietly] no entry in the browser's history
   */
  go(to, quietly = false) {
    const next = { ...this.route, ...to };
    if (to.filter && !same(to.filter, this.route.filter)) {
      next.cursor = null;
      this.tabs.tell({ kind: "filter", subject: this.who?.subject, filter: to.filter });
    }
    if (!next.cursor) this.behind = [];
    const url = write(next);
    if (url !== location.pathname + location.search)
      history[quietly ? "replaceState" : "pushState"]({ behind: this.behind }, "", url);
    this.#arrive(next);
  }

  /** @param {string} id */
  open(id) {
    this.go({ job: id });
  }

  close() {
    if (this.route.job) this.go({ job: null });
  }

  nextPage() {
    const { cursor } = this.state.page;
    if (!cursor) return;
    this.behind.push(this.route.cursor);
    this.go({ cursor });
  }

  previousPage() {
    this.go({ cursor: this.behind.pop() ?? null });
  }

  /** The first page as it is now. */
  refresh() {
    this.behind = [];
    if (this.route.cursor) this.go({ cursor: null });
    else void this.load();
  }

  /** @param {Iterable<string>} ids @param {boolean} [told] by another tab */
  select(ids, told = false) {
    this.selection = new Set(ids);
    this.painter.mark("selection");
    if (!told) this.tabs.tell({ kind: "selection", subject: this.who?.subject, ids: [...this.selection] });
  }

  /** @param {import("./filter.js").Route} next */
  #arrive(next) {
    const before = this.route;
    if (FOR_ADMINS.has(next.view) && this.who && !this.isAdmin) next.view = "jobs";
    this.route = next;
    if (!next.cursor) this.behind = [];
    if (!same(before.filter, next.filter) || before.cursor !== next.cursor) {
      this.select([], !same(before.filter, next.filter) ? false : true);
      void this.load();
    }
    if (next.job !== (this.state.detail?.id ?? null)) this.#show(next.job);
    this.painter.mark("route");
  }

  /** @param {string|null} id */
  #show(id) {
    if (this.state.detail) this.stream.unfollow(this.state.detail.id);
    this.detailError = null;
    if (!id || !this.who) return this.state.unwatch();
    this.state.watch(id);
    this.stream.follow(id);
    void this.#loadDetail(id);
    if (this.stream.link.kind === "polling") this.polled();
  }

  /** @param {string} id */
  async #loadDetail(id) {
    const asked = this.state.detail;
    try {
      const [job, history] = await Promise.all([
        this.api.get(`/api/jobs/${id}`),
        this.api.get(`/api/jobs/${id}/events`),
      ]);
      if (asked === this.state.detail) this.state.detailLoaded(job.data, history.data.events);
    } catch (error) {
      if (asked !== this.state.detail) return;
      this.detailError = { id, error: error instanceof ApiError ? error : new ApiError(0, "failed", message(error)) };
      this.painter.mark("detail");
    }
  }

  /** The whole job anew: an update has left its result out for its size. */
  reload() {
    if (this.state.detail) void this.#loadDetail(this.state.detail.id);
  }

  // --- who is there -----------------------------------------------------------------------------------------------

  /** @param {string|null} reason */
  #identity(reason) {
    this.stream.stop();
    this.state.reset();
    this.began = false;
    this.listError = null;
    this.selection.clear();
    if (reason !== null) this.behind = [];
    else {
      this.stream.start(this.isAdmin);
      if (!this.isAdmin && FOR_ADMINS.has(this.route.view)) this.route.view = "jobs";
      if (this.route.job) this.#show(this.route.job);
      void this.load();
    }
    this.painter.mark("identity");
    this.painter.mark("route");
  }

  signOut() {
    this.tabs.tell({ kind: "signed out", subject: this.who?.subject });
    return this.session.signOut();
  }

  /** @param {any} told by another tab */
  #heard(told) {
    if (!this.who || told.subject !== this.who.subject) return;
    if (told.kind === "signed out" && !this.session.pasted) this.session.forget();
    if (told.kind === "selection") this.select(told.ids, true);
    if (told.kind === "filter" && !same(told.filter, this.route.filter)) {
      this.route = { ...this.route, filter: told.filter, cursor: null };
      this.behind = [];
      history.replaceState(null, "", write(this.route));
      void this.load();
      this.painter.mark("route");
    }
  }
}

/** @param {unknown} error */
export function message(error) {
  return error instanceof Error ? error.message : String(error);
}
