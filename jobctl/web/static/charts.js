/** Small lines of the last five minutes, fed by the stream. */
import { Part, h, put, svg } from "./dom.js";
import { duration, now, rate } from "./format.js";
import { Series } from "./series.js";

const WIDTH = 300;
const HEIGHT = 40;

/** One line over an area. */
export class Line {
  /** @param {string} colour class */
  constructor(colour) {
    this.path = svg("path", { class: "line", "vector-effect": "non-scaling-stroke" });
    this.area = svg("path", { class: "area" });
    this.element = svg(
      "svg",
      {
        class: `spark ${colour}`,
        viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
        preserveAspectRatio: "none",
        "aria-hidden": "true",
      },
      this.area,
      this.path,
    );
  }

  /** @param {(number|null)[]} values a null is a gap */
  draw(values) {
    const top = Math.max(...values.map((each) => each ?? 0)) || 1;
    const at = (/** @type {number} */ i, /** @type {number} */ value) =>
      `${((i / (values.length - 1)) * WIDTH).toFixed(1)} ${(HEIGHT - 2 - (value / top) * (HEIGHT - 4)).toFixed(1)}`;
    let line = "";
    let area = "";
    let from = -1;
    values.forEach((value, i) => {
      if (value === null) return;
      if (from < 0 || values[i - 1] === null) {
        line += `M${at(i, value)}h.1`;
        from = i;
      } else line += `L${at(i, value)}`;
    });
    if (from >= 0 && values.every((each) => each !== null))
      area = `M0 ${HEIGHT}L${line.slice(1).replace("h.1", "")}L${WIDTH} ${HEIGHT}Z`;
    this.path.setAttribute("d", line);
    this.area.setAttribute("d", area);
  }
}

/** @param {number} seconds */
const wait = (seconds) => (seconds < 1 ? `${Math.round(seconds * 1000)} ms` : duration(seconds));

class Charts extends Part {
  build() {
    this.setAttribute("role", "group");
    this.setAttribute("aria-label", "The last five minutes");
    this.cards = ["Completed", "Failures", "Wait"].map((title, i) => {
      const line = new Line(["completed", "failed", "running"][i]);
      const figure = h("span.figure.tabular", {}, "–");
      const most = h("span.most.tabular", {});
      this.append(h("div.chart", {}, h("p", {}, h("span.title", {}, title), " ", figure, most), line.element));
      return { line, figure, most };
    });
    this.append(h("span.chart-span", { "aria-hidden": "true" }, "last 5 min"));
    this.paints(["tick", "identity"], () => this.#paint());
    this.#paint();
  }

  #paint() {
    if (!this.isConnected || this.app.route.view !== "jobs" || !this.cards) return;
    const { completed, failed, wait: medians } = this.app.state.series.lines(now());
    const waits = medians.filter((each) => each !== null);
    const [first, second, third] = this.cards;
    first.line.draw(completed);
    second.line.draw(failed);
    third.line.draw(medians);
    put(first.figure, `${rate(Series.recent(completed))}/s`);
    put(first.most, `at most ${rate(Math.max(...completed))}/s`);
    put(second.figure, `${rate(Series.recent(failed) * 60)}/min`);
    put(second.most, `${Math.round(failed.reduce((sum, each) => sum + each, 0) * 5)} in 5 min`);
    put(third.figure, waits.length ? wait(/** @type {number} */ (waits.at(-1))) : "–");
    put(third.most, waits.length ? `at most ${wait(Math.max(.../** @type {number[]} */ (waits)))}` : "before a run");
  }
}

customElements.define("jc-charts", Charts);
