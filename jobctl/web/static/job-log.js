/** The live tail of a job's log. It follows the end as long as the reader is there. */
import { Part, h, put } from "./dom.js";
import { clock, plural, visible } from "./format.js";
import { TERMINAL } from "./states.js";

/** Lines that are drawn; the page keeps more than it draws. */
const DRAWN = 1000;
const NEAR_PX = 40;

class JobLog extends Part {
  build() {
    this.lines = h("div.log", { role: "log", "aria-live": "off", "aria-label": "Log", tabindex: "0" });
    this.count = h("span.muted.small");
    this.append(h("section", {}, h("h3", {}, "Log ", this.count), this.lines));
    /** @type {string|undefined} */
    this.shownId = undefined;
    this.last = 0;
    this.paints(["log", "detail"], () => this.#paint());
    this.#paint(); // what came before this part was there
  }

  #paint() {
    const { detail } = this.app.state;
    if (!detail) return;
    if (detail.id !== this.shownId) {
      this.shownId = detail.id;
      this.last = 0;
      this.lines.replaceChildren();
    }
    const fresh = detail.lines.filter((line) => line.n > this.last).slice(-DRAWN);
    const ended = detail.gone || (detail.job !== null && TERMINAL.has(detail.job.status));
    put(
      this.count,
      detail.lines.length
        ? plural(detail.lines.length + detail.skipped, "line")
        : ended
          ? "has no lines"
          : "nothing yet",
    );
    this.lines.hidden = detail.lines.length === 0;
    if (!fresh.length) return;
    this.last = fresh[fresh.length - 1].n;
    const { scrollTop, scrollHeight, clientHeight } = this.lines;
    const atEnd = scrollHeight - scrollTop - clientHeight < NEAR_PX;
    this.lines.append(
      ...fresh.map((line) =>
        h(
          "div.log-line",
          { "data-stream": line.stream },
          h("time.tabular", {}, clock(line.at)),
          h("bdi", {}, visible(line.text)),
        ),
      ),
    );
    for (let over = this.lines.children.length - DRAWN; over > 0; over--) this.lines.firstElementChild?.remove();
    if (atEnd) this.lines.scrollTop = this.lines.scrollHeight;
  }
}

customElements.define("jc-job-log", JobLog);
