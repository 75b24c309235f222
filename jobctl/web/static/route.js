/**
 * Where the page is, as its URL says: the view, the filter, the page of the list, the open job. A one-time code stands
 * in the fragment, which no server sees, and is taken out at once.
 *
 * @typedef {object} Route
 * @property {"jobs"|"schedules"|"queues"} view
 * @property {import("./filter.js").Filter} filter
 * @property {string|null} cursor
 * @property {string|null} job
 */
import { fromQuery, toQuery } from "./filter.js";

const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** @param {string} search @returns {Route} */
export function read(search) {
  const query = new URLSearchParams(search);
  const view = query.get("view");
  const job = query.get("job");
  return {
    view: view === "schedules" || view === "queues" ? view : "jobs",
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
