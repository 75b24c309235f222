/** The frame: header, views, drawer, footer; or the sign-in. */
import "./charts.js";
import { applyTheme, nextTheme, theme } from "./choices.js";
import { Part, attribute, h, part, put } from "./dom.js";
import { FOR_ADMINS } from "./filter.js";
import "./filters.js";
import { applyKeys, listen } from "./keys.js";
import "./link.js";
import "./table.js";
import "./tiles.js";

const VIEWS = /** @type {const} */ ([
  ["jobs", "Jobs"],
  ["schedules", "Schedules"],
  ["queues", "Queues"],
  ["workers", "Workers"],
]);
const TICK_MS = 1000;

class Shell extends Part {
  build() {
    const { app } = this;
    /** Ends with the frame. */
    this.leaving = new AbortController();
    this.append((this.gate = part("jc-sign-in", app)), part("jc-toasts", app));
    this.gate.hidden = true;
    app.painter.on(["identity"], () => this.#identity());
    app.painter.on(["route"], () => this.#route());
    listen(app, this);
    document.addEventListener("new-job", () => void early("jc-new-job", "new-job"));
    applyKeys();
    addEventListener("storage", () => (applyTheme(), applyKeys())); // chosen in another tab
    setInterval(() => {
      if (document.hidden || !app.who) return;
      app.settle();
      app.painter.mark("tick");
    }, TICK_MS);
  }

  #identity() {
    const { app } = this;
    this.frame?.remove();
    this.leaving.abort();
    this.leaving = new AbortController();
    this.gate.hidden = app.who !== null || app.session.out === null; // not known yet
    if (!app.who) return void (app.session.out !== null && import("./sign-in.js"));
    this.views = {
      jobs: h(
        "div.view",
        {},
        h("h1.offscreen", {}, "Jobs"),
        part("jc-tiles", app),
        part("jc-charts", app),
        part("jc-filters", app),
        part("jc-jobs", app),
      ),
      schedules: h("div.view", {}, part("jc-schedules", app)),
      queues: h("div.view", {}, part("jc-queues", app)),
      workers: h("div.view", {}, part("jc-workers", app)),
    };
    this.frame = h(
      "div.frame",
      {},
      this.#header(),
      h("main", { id: "main", tabindex: "-1" }, ...Object.values(this.views)),
      part("jc-job", app),
      part("jc-bulk", app),
      part("jc-new-job", app),
      part("jc-bill", app),
    );
    this.prepend(this.frame);
  }

  #header() {
    const { app } = this;
    const { subject, role } = /** @type {import("./session.js").Who} */ (app.who);
    this.tabs = VIEWS.filter(([view]) => !FOR_ADMINS.has(view) || app.isAdmin).map(([view, label]) =>
      h(
        "a",
        {
          href: view === "jobs" ? "/" : `/?view=${view}`,
          "data-view": view,
          onclick: (/** @type {MouseEvent} */ event) => this.#visit(event, view),
        },
        label,
      ),
    );
    const themeButton = h(
      "button.quiet",
      { type: "button", onclick: () => put(themeButton, `Theme: ${nextTheme()}`) },
      `Theme: ${theme()}`,
    );
    const menu = h(
      "details.menu",
      { ontoggle: () => put(themeButton, `Theme: ${theme()}`) }, // it may have been chosen in another tab
      h(
        "summary",
        { "aria-label": `Account: ${subject}, ${role}` },
        h("span.avatar", { "aria-hidden": "true" }, subject.slice(0, 1).toUpperCase()),
        h("span.wide-only", {}, subject),
      ),
      h(
        "div.sheet",
        {},
        h("p.muted", {}, h("bdi", {}, subject), ` (${role})`),
        themeButton,
        h(
          "button.quiet",
          { type: "button", onclick: () => this.dispatchEvent(new CustomEvent("help", { bubbles: true })) },
          "Keyboard",
        ),
        h("button.quiet", { type: "button", onclick: () => app.signOut() }, "Sign out"),
      ),
    );
    document.addEventListener(
      "click",
      (event) => !menu.contains(/** @type {Node} */ (event.target)) && menu.removeAttribute("open"),
      { signal: this.leaving?.signal },
    );
    return h(
      "header.top",
      {},
      h("a.skip", { href: "#main" }, "Skip to content"),
      h(
        "span.brand",
        {},
        h("img", { src: "/static/icon.svg", alt: "", width: "20", height: "20" }),
        h("span.wide-only", {}, "jobctl"),
      ),
      h("nav", { "aria-label": "Views" }, this.tabs),
      h("span.grow"),
      part("jc-link", app),
      h(
        "button.primary",
        {
          type: "button",
          "data-new-job": "",
          onclick: () => this.dispatchEvent(new CustomEvent("new-job", { bubbles: true })),
        },
        h("span", { "aria-hidden": "true" }, "+"),
        h("span.wide-only", {}, " New job"),
        h("span.narrow-only.offscreen", {}, "New job"),
      ),
      menu,
    );
  }

  /** @param {MouseEvent} event @param {"jobs"|"schedules"|"queues"|"workers"} view */
  #visit(event, view) {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    this.app.go({ view, job: null });
  }

  #route() {
    const { view } = this.app.route;
    if (!this.views) return;
    for (const [name, element] of Object.entries(this.views)) element.hidden = name !== view;
    for (const tab of this.tabs ?? []) attribute(tab, "aria-current", tab.dataset.view === view ? "page" : null);
    document.title = `${VIEWS.find(([name]) => name === view)?.[1]} · jobctl`;
  }
}

/**
 * What a person wants of a part that is still on its way is done when it has come.
 * @param {string} name of the part
 * @param {string} event that it hears
 */
async function early(name, event) {
  if (customElements.get(name)) return;
  await customElements.whenDefined(name);
  document.dispatchEvent(new CustomEvent(event));
}

customElements.define("jc-shell", Shell);

/** @param {import("./app.js").App} app */
export function show(app) {
  document.body.append(part("jc-shell", app));
  for (const what of ["identity", "route"]) app.painter.mark(what);
}
