/** Retry, cancel, delete: shown at once, taken back with the reason where the server refuses. */
import { message } from "./app.js";
import { h } from "./dom.js";
import { now, plural, tail } from "./format.js";
import { allowed, expected } from "./states.js";

const DONE = { retry: "will run again", cancel: "cancelled", delete: "deleted" };
const NOT_DONE = { retry: "could not be retried", cancel: "could not be cancelled", delete: "could not be deleted" };
/** @typedef {"retry"|"cancel"|"delete"} Action */

/**
 * Show what the action most likely makes of the job.
 * @param {import("./app.js").App} app
 * @param {Action} action
 * @param {import("./states.js").Job} job
 */
function guess(app, action, job) {
  const guessed = app.state.overlay.set(job, expected(action, job));
  repaint(app, job.id);
  return guessed;
}

/** @param {import("./app.js").App} app @param {string} id */
function repaint(app, id) {
  app.state.page.touched.add(id);
  for (const kind of ["rows", "detail"]) app.painter.mark(kind);
}

/** It has been deleted. @param {import("./state.js").State} state @param {string} id */
function gone(state, id) {
  state.page.drop(id);
  if (state.detail?.id === id) state.detail.gone = true;
}

/**
 * @param {import("./app.js").App} app
 * @param {Action} action
 * @param {import("./states.js").Job} job
 */
export async function act(app, action, job) {
  const { state, api } = app;
  const name = `${job.name} ${tail(job.id)}`;
  const guessed = guess(app, action, job);
  try {
    if (action === "delete") {
      await api.send("DELETE", `/api/jobs/${job.id}`);
      gone(state, job.id);
    } else state.told((await api.post(`/api/jobs/${job.id}/${action}`)).data, now());
    toast(`${name}: ${action === "cancel" && job.status === "running" ? "asked to stop" : DONE[action]}`);
  } catch (error) {
    toast(`${name}: cannot ${action}: ${message(error)}`, "bad");
  } finally {
    state.overlay.drop(job.id, guessed);
    repaint(app, job.id);
  }
}

/**
 * All of `jobs` that allow it, by one request.
 * @param {import("./app.js").App} app
 * @param {Action} action
 * @param {import("./states.js").Job[]} jobs
 */
export async function actAll(app, action, jobs) {
  const { state, api } = app;
  const fit = jobs.filter((job) => allowed(action, job));
  if (!fit.length) return;
  const guesses = new Map(fit.map((job) => [job.id, guess(app, action, job)]));
  const back = (/** @type {string} */ id) => {
    state.overlay.drop(id, guesses.get(id));
    repaint(app, id);
  };
  try {
    const { data } = await api.post("/api/jobs/bulk", { action, ids: [...guesses.keys()] });
    /** @type {Map<string, string>} */
    const refused = new Map(data.refused.map((/** @type {any} */ each) => [each.id, each.detail]));
    for (const id of refused.keys()) back(id);
    // What was done is told by the stream; until then the guess stands for it.
    if (action === "delete") for (const id of guesses.keys()) if (!refused.has(id)) (gone(state, id), back(id));
    const told = [];
    if (data.changed) told.push(`${plural(data.changed, "job")} ${DONE[action]}`);
    for (const why of [...refused.values()].slice(0, 1))
      told.push(`${told.length ? refused.size : plural(refused.size, "job")} ${NOT_DONE[action]}: ${why}`);
    toast(told.join(", "), refused.size ? "bad" : "good");
  } catch (error) {
    for (const id of guesses.keys()) back(id);
    toast(`${plural(fit.length, "job")} ${NOT_DONE[action]}: ${message(error)}`, "bad");
  }
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

/**
 * A question before something that cannot be taken back.
 * @param {string} title
 * @param {string} text
 * @param {string|null} yes what the button says; null: there is nothing to decide
 * @returns {Promise<boolean>}
 */
export function ask(title, text, yes) {
  return new Promise((answer) => {
    const dialog = h(
      "dialog.ask",
      { "aria-labelledby": "ask-title", "aria-describedby": "ask-text" },
      h(
        "form",
        { method: "dialog" },
        h("h2", { id: "ask-title" }, title),
        h("p", { id: "ask-text" }, text),
        h(
          "div.buttons",
          {},
          h("button", { type: "submit", value: "no" }, yes === null ? "Close" : "Leave it"),
          yes === null ? null : h("button.danger", { type: "submit", value: "yes" }, yes),
        ),
      ),
    );
    dialog.addEventListener("submit", (/** @type {SubmitEvent} */ event) => {
      event.preventDefault(); // form-action 'none' of the policy also forbids this kind of submission
      dialog.close(/** @type {HTMLButtonElement} */ (event.submitter)?.value ?? "no");
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      answer(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
