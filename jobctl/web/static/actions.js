/** Retry, cancel, delete: shown at once, taken back with the reason where the server refuses. */
import { message } from "./app.js";
import { now } from "./clock.js";
import { h } from "./dom.js";
import { plural, tail } from "./format.js";
import { allowed, expected } from "./states.js";

/** Requests of one bulk action that are under way at once. */
const AT_ONCE = 4;
const DONE = { retry: "will run again", cancel: "cancelled", delete: "deleted" };
/** @typedef {"retry"|"cancel"|"delete"} Action */

/**
 * @param {import("./app.js").App} app
 * @param {Action} action
 * @param {import("./states.js").Job} job
 * @returns {Promise<string|null>} why not; null: it is done
 */
async function one(app, action, job) {
  const { state, api } = app;
  const guess = state.overlay.set(job, expected(action, job));
  state.page.touched.add(job.id);
  for (const kind of ["rows", "detail"]) app.painter.mark(kind);
  try {
    if (action === "delete") {
      await api.send("DELETE", `/api/jobs/${job.id}`);
      state.page.drop(job.id);
      if (state.detail?.id === job.id) state.detail.gone = true;
    } else {
      const { data } = await api.post(`/api/jobs/${job.id}/${action}`);
      state.told(data, now());
    }
    return null;
  } catch (error) {
    return message(error);
  } finally {
    state.overlay.drop(job.id, guess);
    state.page.touched.add(job.id);
    for (const kind of ["rows", "detail"]) app.painter.mark(kind);
  }
}

/**
 * @param {import("./app.js").App} app
 * @param {Action} action
 * @param {import("./states.js").Job} job
 */
export async function act(app, action, job) {
  const refused = await one(app, action, job);
  if (refused === null)
    toast(
      `${job.name} ${tail(job.id)}: ${action === "cancel" && job.status === "running" ? "asked to stop" : DONE[action]}`,
    );
  else toast(`${job.name} ${tail(job.id)}: cannot ${action}: ${refused}`, "bad");
}

/**
 * @param {import("./app.js").App} app
 * @param {Action} action
 * @param {import("./states.js").Job[]} jobs
 */
export async function actAll(app, action, jobs) {
  const fit = jobs.filter((job) => allowed(action, job));
  /** @type {string[]} */
  const refusals = [];
  const queue = [...fit];
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (let job = queue.shift(); job; job = queue.shift()) {
        const refused = await one(app, action, job);
        if (refused !== null) refusals.push(refused);
      }
    }),
  );
  const done = fit.length - refusals.length;
  if (refusals.length)
    toast(`${plural(done, "job")} ${DONE[action]}, ${refusals.length} refused: ${refusals[0]}`, "bad");
  else toast(`${plural(done, "job")} ${DONE[action]}`);
}

/**
 * All that match a filter, however many.
 * @param {import("./app.js").App} app
 * @param {Action} action
 * @param {Record<string, unknown>} filter
 */
export async function actOnMatching(app, action, filter) {
  let changed = 0;
  let cursor = null;
  try {
    do {
      /** @type {{data: any}} */
      const { data } = await app.api.post("/api/jobs/bulk", { action, filter, ...(cursor ? { cursor } : {}) });
      changed += data.changed;
      cursor = data.cursor;
    } while (cursor);
    toast(`${plural(changed, "job")} ${DONE[action]}`);
  } catch (error) {
    toast(`${changed ? `${plural(changed, "job")} ${DONE[action]}, then: ` : ""}${message(error)}`, "bad");
  }
}

/**
 * A short word to the person, also for screen readers.
 * @param {string} text
 * @param {"good"|"bad"} [kind]
 * @param {{label: string, run: () => void}} [action]
 */
export function toast(text, kind = "good", action) {
  document.dispatchEvent(new CustomEvent("toast", { detail: { text, kind, action } }));
}

/** @param {string} text @param {string} what */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`${what} copied`);
  } catch {
    if (byHand(text)) toast(`${what} copied`);
    else toast("The browser does not let this page use the clipboard.", "bad");
  }
}

/** Where there is no clipboard to write to (plain http on another machine). @param {string} text */
function byHand(text) {
  const before = /** @type {HTMLElement|null} */ (document.activeElement);
  const field = h("textarea.offstage", { "prop:value": text });
  (document.querySelector("dialog[open]") ?? document.body).append(field); // nothing else can be selected meanwhile
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  before?.focus({ preventScroll: true });
  return done;
}
