/** How the page is connected, in truth; and what it has cost. */
import { Part, attribute, h, put } from "./dom.js";
import { count, plural } from "./format.js";

/** What the indicator says; the class gives the colour, the glyph says the same without it. */
const SAYS = {
  connecting: ["◌", "Connecting…", "wait"],
  live: ["●", "Live", "good"],
  "catching up": ["◌", "Catching up…", "wait"],
  silent: ["◍", "No answer…", "wait"],
  waiting: ["◌", "Reconnecting", "wait"],
  offline: ["○", "Offline", "bad"],
  polling: ["◐", "Live by long poll", "wait"],
  paused: ["◌", "Paused", "wait"],
  closed: ["○", "Signed out", "bad"],
};
const WHY = {
  polling:
    "Something between here and the server forbids WebSockets or cuts them, so the page asks for changes by long poll. It tries the stream again now and then; click to try it now.",
  silent: "The connection is open, but the server does not answer.",
  offline: "This machine has no network. The page goes on by itself when it is back.",
};

class LinkState extends Part {
  build() {
    this.glyph = h("span", { "aria-hidden": "true" });
    this.words = h("span.words");
    /** Tries on the way are not told to screen readers, only where they lead. */
    this.told = h("span.offscreen", { role: "status" });
    this.rest = h("span.words.tabular", { "aria-hidden": "true" });
    this.button = h(
      "button.link",
      { type: "button", onclick: () => this.app.stream.retry() },
      this.glyph,
      this.words,
      this.rest,
    );
    this.append(this.button, this.told);
    this.paints(["link", "identity"], () => this.#paint());
    this.#paint();
  }

  #paint() {
    const { link } = this.app.stream;
    const [glyph, words, mood] = SAYS[link.kind];
    put(this.glyph, glyph);
    put(this.words, words);
    if (link.kind !== "connecting" && link.kind !== "catching up") put(this.told, words);
    put(
      this.rest,
      link.until === undefined ? "" : ` in ${Math.max(0, Math.ceil((link.until - performance.now()) / 1000))} s`,
    );
    attribute(this.button, "data-mood", mood);
    attribute(this.button, "data-link", link.kind);
    attribute(
      this.button,
      "title",
      WHY[/** @type {keyof typeof WHY} */ (link.kind)] ??
        (link.kind === "waiting" ? "Try now" : "Each change is shown as it is committed"),
    );
  }
}

class BillLine extends Part {
  build() {
    const line = h("p", {});
    this.append(h("footer", {}, line));
    const { bill } = this.app;
    const since = new Date(bill.opened).toLocaleTimeString(undefined, {
      hour: "2-digit",
      minute: "2-digit",
      hourCycle: "h23",
    });
    const paint = () =>
      put(
        line,
        `Since ${since} this page has sent ${plural(bill.requests, "request")} over ${plural(bill.connections, "connection")} for ${plural(bill.updates, "update")}; polling every 30 s would have sent ${count(bill.polled(Date.now()))}, and been up to 30 s behind.`,
      );
    this.paints(["tick", "link", "page"], paint);
    paint();
  }
}

customElements.define("jc-link", LinkState);
customElements.define("jc-bill", BillLine);
