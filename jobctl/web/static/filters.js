/** What narrows the table: a search, queue, name, tag, mine. All of it stands in the URL. */
import { Part, attribute, h } from "./dom.js";
import { isEmpty, noFilter } from "./filter.js";
import { visible } from "./format.js";

const SEARCH_MS = 250;
const MAX_KNOWN = 200;

class Filters extends Part {
  build() {
    const { app } = this;
    /** Values that have been seen, for the lists. */
    this.known = { name: new Set(), tag: new Set() };
    this.search = h("input", {
      type: "search",
      placeholder: "Search name, id or tag",
      "aria-label": "Search name, id or tag",
      maxlength: "200",
      "data-search": "",
      oninput: () => this.#soon(),
      onchange: () => this.#searched(),
    });
    this.lists = /** @type {const} */ (["queue", "name", "tag"]).map((field) => {
      const list = h("select", {
        "aria-label": `Filter by ${field}`,
        onchange: () => app.go({ filter: { ...app.route.filter, [field]: list.value ? [list.value] : [] } }),
      });
      return { field, list, options: "" };
    });
    this.mine = h("input", {
      type: "checkbox",
      onchange: () => app.go({ filter: { ...app.route.filter, mine: this.mine.checked } }),
    });
    this.clear = h("button.quiet", { type: "button", onclick: () => app.go({ filter: noFilter() }) }, "Clear");
    this.append(
      h(
        "search",
        { class: "filters", "aria-label": "Filter jobs" },
        h("span.search", {}, this.search, h("kbd", { "aria-hidden": "true" }, "/")),
        app.isAdmin ? h("label.check", {}, this.mine, "Mine") : null,
        this.lists.map(({ list }) => list),
        this.clear,
      ),
    );
    this.paints(["route", "page", "stats"], () => this.#paint());
    this.#paint();
  }

  #soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#searched(), SEARCH_MS);
  }

  #searched() {
    clearTimeout(this.timer);
    const { filter } = this.app.route;
    if (this.search.value !== filter.q) this.app.go({ filter: { ...filter, q: this.search.value } }, filter.q !== "");
  }

  #paint() {
    const { route, state } = this.app;
    const { filter } = route;
    for (const job of state.page.rows) {
      if (this.known.name.size < MAX_KNOWN) this.known.name.add(job.name);
      for (const tag of job.tags) if (this.known.tag.size < MAX_KNOWN) this.known.tag.add(tag);
    }
    const values = {
      queue: Object.keys(state.stats?.byQueue ?? {}),
      name: [...this.known.name],
      tag: [...this.known.tag],
    };
    for (const each of this.lists ?? []) {
      const chosen = filter[each.field];
      const options = [...new Set([...values[each.field], ...chosen])].sort();
      const key = JSON.stringify([options, chosen.length > 1 ? chosen : 0]);
      if (key !== each.options) {
        each.options = key;
        each.list.replaceChildren(
          h("option", { value: "" }, `Any ${each.field}`),
          ...options.map((value) => h("option", { value }, visible(value).slice(0, 80))),
        );
        if (chosen.length > 1)
          each.list.append(h("option", { value: chosen.join(",") }, visible(chosen.join(", ")).slice(0, 80)));
      }
      each.list.value = chosen.length > 1 ? chosen.join(",") : (chosen[0] ?? "");
      attribute(each.list, "data-active", chosen.length > 0);
    }
    if (document.activeElement !== this.search) this.search.value = filter.q;
    this.mine.checked = filter.mine;
    attribute(this.clear, "data-unused", isEmpty(filter));
    this.clear.disabled = isEmpty(filter);
  }
}

customElements.define("jc-filters", Filters);
