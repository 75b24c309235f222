/**
 * The keyboard, and the list of what it does. Keys of one character can be turned off (WCAG 2.1.4): who speaks to the
 * computer, or hits keys by chance, would set off something with every word.
 */
import { keep, kept } from "./choices.js";
import { attribute, h } from "./dom.js";

const KEYS = [
  ["/", "search"],
  ["j  k", "next, previous job"],
  ["Enter", "open the job"],
  ["x", "select the job"],
  ["n", "new job"],
  ["1  2  3  4", "jobs, schedules, queues, workers"],
  ["[  ]", "newer, older page"],
  ["Esc", "close, or clear the selection"],
  ["?", "this list"],
];

const singleKeys = () => kept("single keys", "on") !== "off";

/** Their hints on the page go with them. */
export function applyKeys() {
  attribute(document.documentElement, "data-no-keys", !singleKeys());
}

/**
 * @param {import("./app.js").App} app
 * @param {HTMLElement} root
 */
export function listen(app, root) {
  const rows = () => /** @type {HTMLElement[]} */ ([...root.querySelectorAll("jc-jobs tbody tr")]);
  const at = () => rows().findIndex((row) => row.contains(document.activeElement));
  const step = (/** @type {number} */ by) => {
    const all = rows();
    const now = at();
    const from = now >= 0 ? now : all.findIndex((row) => row.dataset.id === app.route.job);
    const next = all[Math.min(all.length - 1, Math.max(0, from < 0 ? 0 : from + by))];
    /** @type {HTMLElement|null} */ (next?.querySelector("a"))?.focus();
    next?.scrollIntoView({ block: "nearest" });
  };
  /** @type {Record<string, () => void>} */
  const does = {
    "/": () => {
      app.go({ view: "jobs" });
      requestAnimationFrame(() => /** @type {HTMLElement|null} */ (root.querySelector("[data-search]"))?.focus());
    },
    j: () => step(1),
    k: () => step(-1),
    x: () => /** @type {HTMLElement|null} */ (rows()[at()]?.querySelector("[data-select]"))?.click(),
    n: () => root.dispatchEvent(new CustomEvent("new-job", { bubbles: true })),
    1: () => app.go({ view: "jobs", job: null }),
    2: () => app.isAdmin && app.go({ view: "schedules", job: null }),
    3: () => app.go({ view: "queues", job: null }),
    4: () => app.isAdmin && app.go({ view: "workers", job: null }),
    "[": () => app.route.cursor && app.previousPage(),
    "]": () => app.nextPage(),
    "?": () => help(),
  };
  document.addEventListener("help", () => help());
  document.addEventListener("keydown", (event) => {
    if (
      !app.who ||
      event.defaultPrevented ||
      event.ctrlKey ||
      event.metaKey ||
      event.altKey ||
      document.querySelector("dialog[open]")
    )
      return;
    const target = /** @type {HTMLElement} */ (event.target);
    const typing = target.matches("input:not([type=checkbox]), textarea, select");
    if (event.key === "Escape") {
      if (typing && target.matches("[data-search]")) {
        event.preventDefault(); // a browser would clear it
        target.blur();
      } else if (app.route.job) app.close();
      else if (app.selection.size) app.select([]);
      return;
    }
    if (typing || !Object.hasOwn(does, event.key) || !singleKeys()) return;
    event.preventDefault();
    does[event.key]();
  });
}

function help() {
  const single = h("input", {
    type: "checkbox",
    id: "single-keys",
    "aria-describedby": "single-keys-hint",
    "prop:checked": singleKeys(),
    onchange: () => {
      keep("single keys", single.checked ? "on" : "off");
      applyKeys();
      attribute(list, "data-off", !single.checked);
    },
  });
  const list = h(
    "dl",
    { "data-off": !singleKeys() },
    KEYS.map(([keys, what]) =>
      h(
        "div",
        { "data-single": keys.split("  ").every((key) => key.length === 1) },
        h(
          "dt",
          {},
          keys.split("  ").map((key) => h("kbd", {}, key)),
        ),
        h("dd", {}, what),
      ),
    ),
  );
  const dialog = h(
    "dialog.help",
    { "aria-labelledby": "help-title" },
    h("h2", { id: "help-title" }, "Keyboard"),
    list,
    h(
      "div.field.check-field",
      {},
      single,
      h("label", { for: "single-keys" }, "Keys of a single character"),
      h("p.muted.small", { id: "single-keys-hint" }, "Enter, Esc and Tab always work. Kept in this browser."),
    ),
    h("div.buttons", {}, h("button", { type: "button", autofocus: true, onclick: () => dialog.close() }, "Close")),
  );
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
