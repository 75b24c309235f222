/**
 * Where the page is and what its table shows: in the URL, for the API, and against one job. A one-time code stands in
 * the URL's fragment, which no server sees, and is taken out at once.
 *
 * @typedef {object} Route
 * @property {"jobs"|"schedules"|"queues"|"workers"} view
 * @property {Filter} filter
 * @property {string|null} cursor
 * @property {string|null} job
 *
 * @typedef {object} Filter
 * @property {string[]} status
 * @property {string[]} name
 * @property {string[]} queue
 * @property {string[]} tag
 * @property {string} q     a part of the name, the id or a tag
 * @property {boolean} mine
 */
import { STATUSES } from "./states.js";

/** Of a page of the list. */
export const ROWS = 50;
const LISTS = /** @type {const} */ (["status", "name", "queue", "tag"]);

/** @type {ReadonlySet<string>} */
export const FOR_ADMINS = new Set(["schedules", "workers"]);

/** @returns {Filter} */
export const noFilter = () => ({ status: [], name: [], queue: [], tag: [], q: "", mine: false });

/**
 * @param {URLSearchParams} query
 * @returns {Filter}
 */
export function fromQuery(query) {
  const filter = noFilter();
  for (const field of LISTS) {
    const values = query.getAll(field).flatMap((each) => (field === "tag" ? [each] : each.split(",")));
    filter[field] = [...new Set(values.map((each) => each.trim()).filter(Boolean))].slice(0, 100);
  }
  filter.status = filter.status.filter((each) => STATUSES.includes(/** @type {any} */ (each)));
  filter.q = (query.get("q") ?? "").slice(0, 200);
  filter.mine = query.get("mine") === "1";
  return filter;
}

/**
 * Writes the filter into `query`, in a fixed order, so that equal filters are equal texts.
 * @param {Filter} filter
 * @param {URLSearchParams} [query]
 */
export function toQuery(filter, query = new URLSearchParams()) {
  for (const field of LISTS) {
    query.delete(field);
    for (const value of [...filter[field]].sort()) query.append(field, value);
  }
  query.delete("q");
  query.delete("mine");
  if (filter.q) query.set("q", filter.q);
  if (filter.mine) query.set("mine", "1");
  return query;
}

/**
 * The parameters of `GET /api/jobs`.
 * @param {Filter} filter
 * @param {string} subject
 */
export function toApi(filter, subject) {
  const query = toQuery({ ...filter, mine: false });
  if (filter.mine) query.set("createdBy", subject);
  return query;
}

/**
 * Where the list of a route is.
 * @param {Route} route
 * @param {string} subject
 */
export function listPath({ filter, cursor }, subject) {
  const query = toApi(filter, subject);
  query.set("limit", String(ROWS));
  if (cursor) query.set("cursor", cursor);
  return `/api/jobs?${query}`;
}

/**
 * The `filter` of `POST /api/jobs/bulk`; no condition means every status.
 * @param {Filter} filter
 * @param {string} subject
 */
export function toBulk(filter, subject) {
  /** @type {Record<string, unknown>} */
  const body = {};
  for (const field of LISTS) if (filter[field].length) body[field] = filter[field];
  if (filter.q) body.q = filter.q;
  if (filter.mine) body.createdBy = subject;
  return Object.keys(body).length ? body : { status: STATUSES };
}

/**
 * Whether the server would list the job.
 * @param {Filter} filter
 * @param {import("./states.js").Job} job
 * @param {string} subject
 */
export function matches(filter, job, subject) {
  if (filter.status.length && !filter.status.includes(job.status)) return false;
  if (filter.name.length && !filter.name.includes(job.name)) return false;
  if (filter.queue.length && !filter.queue.includes(job.queue)) return false;
  if (filter.tag.length && !filter.tag.some((each) => job.tags.includes(each))) return false;
  if (filter.mine && job.createdBy !== subject) return false;
  if (!filter.q) return true;
  const wanted = filter.q.toLowerCase();
  return (
    job.name.toLowerCase().includes(wanted) ||
    job.id.includes(wanted) ||
    job.tags.some((each) => each.toLowerCase().includes(wanted))
  );
}

/** @param {Filter} filter */
export const isEmpty = (filter) => toQuery(filter).size === 0;
/** @param {Filter} a @param {Filter} b */
export const same = (a, b) => toQuery(a).toString() === toQuery(b).toString();

// --- the page's own URL ------------------------------------------------------------------------------------------------

const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** @param {string} search @returns {Route} */
export function read(search) {
  const query = new URLSearchParams(search);
  const view = query.get("view");
  const job = query.get("job");
  return {
    view: view === "schedules" || view === "queues" || view === "workers" ? view : "jobs",
    filter: fromQuery(query),
    cursor: query.get("after"),
    job: job && ID.test(job) ? job : null,
  };
}

/** @param {Route} route */
export function write({ view, filter, cursor, job }) {
  const query = new URLSearchParams();
  if (view !== "jobs") query.set("view", view);
  toQuery(filter, query);
  if (cursor) query.set("after", cursor);
  if (job) query.set("job", job);
  const text = query.toString();
  return text ? `/?${text}` : "/";
}

/** The code of a one-time link; the address loses it. */
export function takeCode() {
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
  return code;
}
