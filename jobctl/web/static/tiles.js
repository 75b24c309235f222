/** Live counts by status; each filters the table. */
import { Part, attribute, h, put } from "./dom.js";
import { count, short } from "./format.js";
import { GLYPHS, STATUSES } from "./states.js";

class Tiles extends Part {
  build() {
    const { app } = this;
    this.setAttribute("role", "group");
    this.setAttribute("aria-label", "Jobs by status");
    this.tiles = STATUSES.map((status) => {
      const number = h("span.number.tabular", {}, "–");
      const tile = h(
        "button.tile",
        {
          type: "button",
          "data-status": status,
          title: "Shift-click to add to the filter",
          onclick: (/** @type {MouseEvent} */ event) =>
            this.#filter(status, event.shiftKey || event.ctrlKey || event.metaKey),
        },
        h("span.label", {}, h("span.glyph", { "aria-hidden": "true" }, GLYPHS[status]), ` ${status}`),
        number,
      );
      return { status, tile, number };
    });
    this.append(...this.tiles.map(({ tile }) => tile));
    this.paints(["stats", "identity"], () => this.#counts());
    this.paints(["route"], () => this.#pressed());
    this.#counts();
    this.#pressed();
  }

  #counts() {
    const { stats } = this.app.state;
    for (const { status, tile, number } of this.tiles ?? []) {
      put(number, stats ? short(stats[status]) : "–");
      tile.setAttribute("aria-label", `${status}: ${stats ? count(stats[status]) : "not known yet"}`);
    }
  }

  #pressed() {
    const chosen = this.app.route.filter.status;
    for (const { status, tile } of this.tiles ?? []) attribute(tile, "aria-pressed", String(chosen.includes(status)));
  }

  /** @param {string} status @param {boolean} add */
  #filter(status, add) {
    const { filter } = this.app.route;
    const others = filter.status.filter((each) => each !== status);
    const had = others.length < filter.status.length;
    const next = add ? (had ? others : [...others, status]) : had && !others.length ? [] : [status];
    this.app.go({ filter: { ...filter, status: next } });
  }
}

customElements.define("jc-tiles", Tiles);
