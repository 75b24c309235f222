/** The live table: rows are updated where they stand, and nothing moves under the pointer. */
import { Part, attribute, h, part, put } from "./dom.js";
import { ROWS, isEmpty, noFilter } from "./filter.js";
import { count, now, plural } from "./format.js";
import { Row } from "./row.js";

const COLUMNS = [
  ["pick", ""],
  ["status", "Status"],
  ["what", "Job"],
  ["queue", "Queue"],
  ["progress", "Progress"],
  ["attempts", "Tries"],
  ["age", "Age"],
  ["took", "Took"],
  ["tags", "Tags"],
];
/** Screen readers are told of new rows no more often than that. */
const TELL_MS = 15_000;

class Jobs extends Part {
  build() {
    const { app } = this;
    /** @type {Map<string, Row>} */
    this.rows = new Map();
    this.toldAt = 0;
    /** Where a shift-click counts from. @type {string|null} */
    this.anchor = null;
    this.all = h("input", {
      type: "checkbox",
      "aria-label": "Select all rows of this page",
      onchange: () => app.select(this.all.checked ? app.state.page.rows.map((job) => job.id) : []),
    });
    this.news = h("button.news", { type: "button", "data-news": "", onclick: () => app.refresh() });
    this.told = h("span.offscreen", { role: "status" });
    this.place = h("span.muted.tabular", {});
    this.newer = h("button.quiet", { type: "button", onclick: () => app.previousPage() }, "‹ Newer");
    this.older = h("button.quiet", { type: "button", onclick: () => app.nextPage() }, "Older ›");
    this.body = h("tbody");
    this.empty = h("div.empty");
    this.table = h(
      "table",
      { "aria-label": "Jobs, newest first" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          COLUMNS.map(([name, label]) =>
            name === "pick" ? h("td.pick", {}, this.all) : h(`th.${name}`, { scope: "col" }, label),
          ),
        ),
      ),
      this.body,
    );
    this.append(
      h(
        "div.list-head",
        {},
        this.place,
        this.news,
        this.told,
        h("span.grow"),
        part("jc-matching", app),
        this.newer,
        this.older,
      ),
      this.table,
      this.empty,
    );
    this.#listen();
    this.paints(["rows", "page", "identity", "selection"], () => this.#paint());
    this.paints(["tick"], () => this.#tick());
    this.paints(["route"], () => this.#current());
    this.#paint();
  }

  #listen() {
    const { app } = this;
    this.body.addEventListener(
      "pointerenter",
      (/** @type {PointerEvent} */ event) => (app.state.page.held = event.pointerType === "mouse"),
    );
    this.body.addEventListener("pointerleave", () => {
      app.state.page.held = false;
      app.settle();
    });
    this.body.addEventListener("click", (/** @type {MouseEvent} */ event) => this.#clicked(event));
  }

  /** @param {MouseEvent} event */
  #clicked(event) {
    const { app } = this;
    const target = /** @type {HTMLElement} */ (event.target);
    const id = /** @type {HTMLElement|null} */ (target.closest("tr"))?.dataset.id;
    if (!id) return;
    const tag = /** @type {HTMLElement|null} */ (target.closest("[data-tag]"))?.dataset.tag;
    if (tag !== undefined) return app.go({ filter: { ...app.route.filter, tag: [tag] } });
    if (target.closest("td.pick")) return this.#pick(id, event);
    if (event.metaKey || event.ctrlKey || (event.shiftKey && target.closest("a")) || String(getSelection()) !== "")
      return;
    event.preventDefault();
    app.open(id);
  }

  /** @param {string} id @param {MouseEvent} event */
  #pick(id, event) {
    const { app } = this;
    const next = new Set(app.selection);
    const chosen = !next.has(id);
    const ids = app.state.page.rows.map((job) => job.id);
    const [from, to] = [ids.indexOf(event.shiftKey && this.anchor ? this.anchor : id), ids.indexOf(id)].sort(
      (a, b) => a - b,
    );
    for (const each of from < 0 ? [id] : ids.slice(from, to + 1)) chosen ? next.add(each) : next.delete(each);
    this.anchor = id;
    app.select(next);
  }

  #paint() {
    const { page } = this.app.state;
    const at = now();
    const touched = page.takeTouched();
    if (page.reordered) {
      page.reordered = false;
      this.#arrange(at);
    } else {
      for (const id of touched) {
        const job = page.find(id);
        if (job) this.rows.get(id)?.update(job, page.left.has(id), at);
      }
    }
    this.#selection();
    this.#head();
  }

  /** Rows in their order; those that are there already are moved only where they have to be. @param {number} at */
  #arrange(at) {
    const { page } = this.app.state;
    const wanted = new Set(page.rows.map((job) => job.id));
    const focused = /** @type {HTMLElement|null} */ (document.activeElement?.closest("tr[data-id]"));
    const heir = focused && !wanted.has(focused.dataset.id ?? "") ? this.#heir(focused, wanted) : null;
    for (const [id, row] of this.rows) {
      if (!wanted.has(id)) {
        row.element.remove();
        this.rows.delete(id);
      }
    }
    let next = this.body.firstElementChild;
    for (const job of page.rows) {
      let row = this.rows.get(job.id);
      if (!row) this.rows.set(job.id, (row = new Row(this.app, job)));
      row.update(job, page.left.has(job.id), at);
      if (row.element === next) next = next.nextElementSibling;
      else this.body.insertBefore(row.element, next);
    }
    if (heir) this.rows.get(heir)?.link.focus({ preventScroll: true });
    this.#current();
    if (page.loaded && !performance.getEntriesByName("jobctl:data").length) performance.mark("jobctl:data");
  }

  /** Who gets the focus of a row that goes: the next one that stays. @param {Element} row @param {Set<string>} staying */
  #heir(row, staying) {
    for (const way of /** @type {const} */ (["nextElementSibling", "previousElementSibling"]))
      for (let each = row[way]; each; each = each[way]) {
        const id = /** @type {HTMLElement} */ (each).dataset.id;
        if (id && staying.has(id)) return id;
      }
    return null;
  }

  #selection() {
    const { selection } = this.app;
    let here = 0;
    for (const [id, row] of this.rows ?? []) {
      const chosen = selection.has(id);
      here += Number(chosen);
      row.box.checked = chosen;
      attribute(row.element, "aria-selected", chosen ? "true" : null);
    }
    this.all.checked = here > 0 && here === this.rows?.size;
    this.all.indeterminate = here > 0 && here < (this.rows?.size ?? 0);
  }

  #current() {
    const { route } = this.app;
    for (const [id, row] of this.rows ?? []) {
      attribute(row.element, "data-current", id === route.job);
      row.follow(route);
    }
  }

  #tick() {
    const at = now();
    for (const row of this.rows?.values() ?? []) row.tick(at);
    this.#head();
  }

  #head() {
    const { app } = this;
    const { page } = app.state;
    const waiting = page.waiting.size;
    const thin = page.loaded && page.hasMore && page.rows.length - page.left.size < ROWS / 2;
    const more = `${page.overfull ? "over " : ""}${plural(waiting, "more job")}`;
    const text = waiting ? `${more} · show` : thin ? "More match · show" : "";
    put(this.news, text);
    this.news.disabled = !text;
    if (waiting && Date.now() - this.toldAt > TELL_MS) {
      this.toldAt = Date.now();
      put(this.told, `${more} to show`);
    } else if (!waiting) put(this.told, "");
    const rows = page.rows.length;
    put(
      this.place,
      !page.loaded
        ? ""
        : page.first
          ? rows
            ? page.hasMore
              ? `Newest ${rows}`
              : plural(rows, "job")
            : ""
          : `${count(rows)} older`,
    );
    this.newer.disabled = !app.route.cursor;
    this.older.disabled = !page.cursor;
    attribute(this, "aria-busy", app.loading ? "true" : null);
    this.#emptiness();
  }

  #emptiness() {
    const { app } = this;
    const { page } = app.state;
    const why = app.listError
      ? "error"
      : page.rows.length
        ? ""
        : !page.loaded
          ? "loading"
          : isEmpty(app.route.filter)
            ? "none"
            : "nothing";
    this.empty.hidden = why === "";
    this.table.hidden = why !== "" && why !== "loading";
    attribute(this, "data-empty", (why === "none" || why === "nothing") && !app.route.cursor);
    if (this.why === why) return;
    this.why = why;
    if (why === "none") {
      this.empty.replaceChildren(
        h("h2", {}, "No jobs yet"),
        h("p", {}, "Enqueue one here, or in a terminal:"),
        h("pre", {}, "jobctl enqueue NAME key=value"),
        h(
          "button.primary",
          { type: "button", onclick: () => this.dispatchEvent(new CustomEvent("new-job", { bubbles: true })) },
          "New job",
        ),
      );
    } else if (why === "nothing") {
      this.empty.replaceChildren(
        h("h2", {}, "Nothing matches"),
        h("p", {}, "What comes to match is shown here at once."),
        h("button", { type: "button", onclick: () => app.go({ filter: noFilter() }) }, "Clear the filter"),
      );
    } else if (why === "error") {
      this.empty.replaceChildren(
        h("h2", {}, "The list could not be had"),
        h("p", {}, app.listError ?? ""),
        h("button", { type: "button", onclick: () => app.load() }, "Try again"),
      );
    } else this.empty.replaceChildren();
  }
}

customElements.define("jc-jobs", Jobs);
