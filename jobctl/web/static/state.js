/**
 * What the page knows: lists that were fetched, joined with the updates of the stream, so that snapshot and updates
 * equal the database. Pure; `changed` is told what to paint.
 *
 * @typedef {import("./states.js").Job} Job
 * @typedef {import("./follower.js").Position} Position
 * @typedef {{n: number, at: string, stream: string, text: string}} LogLine
 * @typedef {object} Detail one job, as the drawer shows it
 * @property {string} id
 * @property {Job|null} job
 * @property {any[]} updates  its history, as stream messages
 * @property {LogLine[]} lines
 * @property {number} skipped  lines that are no longer kept here
 * @property {string|null} toldAt  when the latest progress was told
 * @property {boolean} gone
 */
import { Overlay, Page, pruned } from "./page.js";
import { Series } from "./series.js";

/** Lines of a log that the page keeps. */
const MAX_LINES = 2000;
const MAX_UPDATES = 10_000;

export class State {
  /**
   * @param {number} limit rows of a page
   * @param {(what: string) => void} changed
   */
  constructor(limit, changed) {
    this.changed = changed;
    this.limit = limit;
    this.reset();
  }

  /** Forget everything: another person signs in. */
  reset() {
    this.page = new Page(this.limit);
    this.series = new Series();
    this.overlay = new Overlay();
    /** @type {any} */
    this.stats = null;
    /** @type {any[]|null} */
    this.schedules = null;
    /** @type {any[]|null} */
    this.workers = null;
    /** @type {Position|null} where the list was true */
    this.listed = null;
    /** @type {Detail|null} */
    this.detail = null;
    /** Of the newest question; never one twice, so that an answer for the person before is not taken. */
    this.ticket = (this.ticket ?? 0) + 1;
    /** @type {any[]|null} updates that came while a list was on its way */
    this.recorded = null;
    /** Of the newest update. */
    this.seq = 0;
  }

  /** A list is being asked for: remember what comes meanwhile. Returns the ticket for `loaded`. */
  fetching() {
    this.recorded = [];
    this.ticket += 1;
    return this.ticket;
  }

  /**
   * The list is there; an answer to an older question is dropped.
   * @param {number} ticket
   * @param {{jobs: Job[], cursor: string|null, hasMore: boolean}} answer
   * @param {Position} position
   * @param {{filter: import("./filter.js").Filter, subject: string, first: boolean}} asked
   * @param {number} now
   */
  loaded(ticket, answer, position, asked, now) {
    if (ticket !== this.ticket) return false;
    const recorded = this.recorded ?? [];
    this.recorded = null;
    this.page.load(answer, asked.filter, asked.subject, asked.first);
    for (const job of answer.jobs) this.overlay.settle(job);
    this.listed = position;
    for (const message of recorded) this.#intoPage(message, now);
    this.changed("rows");
    this.changed("page");
    return true;
  }

  /** It could not be had. @param {number} ticket */
  failed(ticket) {
    if (ticket === this.ticket) this.recorded = null;
  }

  /**
   * @param {any} message of the stream
   * @param {number} now
   */
  receive(message, now) {
    switch (message.type) {
      case "job_update":
        this.series.take(message.job, message.timestamp);
        this.#intoDetail(message);
        break;
      case "job_deleted":
        if (this.detail?.id === message.id) {
          this.detail.gone = true;
          this.changed("detail");
        }
        break;
      case "job_stats_update":
        this.stats = message.stats;
        this.changed("stats");
        return;
      case "schedules_update":
        this.schedules = message.schedules;
        this.changed("schedules");
        return;
      case "workers_update":
        this.workers = message.workers;
        this.changed("workers");
        return;
      case "job_log":
        this.#lines(message);
        return;
      case "jobs_pruned":
        if (this.detail && pruned(this.detail.job, message.statuses, message.finishedBefore)) {
          this.detail.gone = true;
          this.changed("detail");
        }
        break;
      default:
        return;
    }
    this.seq = message.seq;
    this.recorded?.push(message);
    this.#intoPage(message, now);
  }

  /** A job as an answer to an action tells it. @param {Job} job @param {number} now */
  told(job, now) {
    this.overlay.settle(job);
    this.page.apply(job, now);
    if (this.detail?.id === job.id) this.#newest(job);
    this.changed("rows");
  }

  /** The job as it is shown, guesses included. @param {Job} job */
  shown(job) {
    return this.overlay.shown(job);
  }

  /** @param {string} id */
  watch(id) {
    this.detail = {
      id,
      job: this.page.find(id) ?? null,
      updates: [],
      lines: [],
      skipped: 0,
      toldAt: null,
      gone: false,
    };
    this.changed("detail");
    return this.detail;
  }

  unwatch() {
    this.detail = null;
    this.changed("detail");
  }

  /**
   * The whole job and its history have been fetched.
   * @param {Job} job
   * @param {any[]} updates
   */
  detailLoaded(job, updates) {
    const detail = this.detail;
    if (detail?.id !== job.id) return;
    const last = updates.at(-1)?.seq ?? 0;
    detail.updates = [...updates, ...detail.updates.filter((each) => each.seq > last)];
    this.#newest(job);
    detail.toldAt = detail.updates.findLast((each) => each.job?.progress)?.timestamp ?? null;
    this.changed("detail");
  }

  /** @param {any} message @param {number} now */
  #intoPage(message, now) {
    if (this.listed && message.seq <= this.listed.seq) return;
    if (message.type === "job_update") {
      this.overlay.settle(message.job);
      this.page.apply(message.job, now);
    } else if (message.type === "job_deleted") {
      this.overlay.drop(message.id);
      this.page.remove(message.id, now);
    } else {
      this.page.prune(message.statuses, message.finishedBefore, now);
    }
    this.changed("rows");
  }

  /** @param {any} message */
  #intoDetail(message) {
    const detail = this.detail;
    if (detail?.id !== message.job.id) return;
    if (message.seq > (detail.updates.at(-1)?.seq ?? 0)) {
      detail.updates.push(message);
      if (detail.updates.length > MAX_UPDATES) detail.updates.splice(1, 1000);
    }
    if (message.job.progress) detail.toldAt = message.timestamp;
    this.#newest(message.job);
    this.changed("detail");
  }

  /** Data and result that an update leaves out for their size stay as they were known. @param {Job} job */
  #newest(job) {
    const detail = /** @type {Detail} */ (this.detail);
    const known = detail.job;
    if (known && (known.version > job.version || (known.version === job.version && !known.omitted))) return;
    const next = { ...job };
    if (known && next.omitted?.includes("data") && !known.omitted?.includes("data")) {
      next.data = known.data;
      next.omitted = next.omitted.filter((each) => each !== "data");
    }
    detail.job = next;
  }

  /** @param {{id: string, lines: LogLine[]}} message */
  #lines(message) {
    const detail = this.detail;
    if (detail?.id !== message.id) return;
    const last = detail.lines.at(-1)?.n ?? 0;
    detail.lines.push(...message.lines.filter((line) => line.n > last));
    const over = detail.lines.length - MAX_LINES;
    if (over > 0) {
      detail.lines.splice(0, over);
      detail.skipped += over;
    }
    this.changed("log");
  }
}
