/** Queues: how deep, how busy, how fast; an admin pauses and resumes them. */
import { toast } from "./actions.js";
import { message } from "./app.js";
import { Line } from "./charts.js";
import { Part, attribute, h, put } from "./dom.js";
import { noFilter } from "./filter.js";
import { count, now, rate } from "./format.js";
import { Series } from "./series.js";

class Queues extends Part {
  build() {
    const { app } = this;
    /** @type {Map<string, any>} */
    this.cards = new Map();
    /** Bounds of their own, by queue; asked for when the view is opened. @type {Map<string, number|null>} */
    this.limits = new Map();
    this.list = h("div.queues");
    this.empty = h(
      "div.empty",
      {},
      h("h2", {}, "No queues yet"),
      h("p", {}, "A queue is there as soon as a job is put into it."),
    );
    this.append(h("h1.view-title", {}, "Queues"), this.list, this.empty);
    this.paints(["stats", "identity"], () => this.#paint());
    this.paints(["tick"], () => this.#tick());
    this.paints(["route"], () => this.#opened());
    void this.#opened();
  }

  async #opened() {
    const { app } = this;
    const open = app.route.view === "queues";
    if (!open || this.open) return void (this.open = open);
    this.open = true;
    this.#paint();
    if (!app.isAdmin) return;
    try {
      const { data } = await app.api.get("/api/queues");
      for (const queue of data.queues) this.limits.set(queue.name, queue.concurrency);
      this.#paint();
    } catch (error) {
      toast(message(error), "bad");
    }
  }

  #paint() {
    if (this.app.route.view !== "queues") return;
    const queues = Object.entries(this.app.state.stats?.byQueue ?? {});
    this.empty.hidden = queues.length > 0 || !this.app.state.stats;
    const names = new Set(queues.map(([name]) => name));
    for (const [name, card] of this.cards) if (!names.has(name)) (card.element.remove(), this.cards.delete(name));
    for (const [name, counts] of queues) {
      let card = this.cards.get(name);
      if (!card) {
        this.cards.set(name, (card = this.#card(name)));
        this.list.append(card.element);
      }
      const limit = this.limits.get(name);
      put(card.depth, count(counts.pending + counts.retrying));
      put(card.running, count(counts.running) + (limit ? ` of ${limit}` : ""));
      put(card.failed, count(counts.failed));
      put(card.completed, count(counts.completed));
      put(card.state, counts.paused ? "‖ paused" : "▶ open");
      attribute(card.element, "data-paused", counts.paused);
      if (card.button) {
        put(card.button, counts.paused ? "Resume" : "Pause");
        card.button.dataset.to = counts.paused ? "resume" : "pause";
        card.button.setAttribute("aria-label", `${counts.paused ? "Resume" : "Pause"} ${name}`);
      }
    }
    this.#tick();
  }

  #tick() {
    if (this.app.route.view !== "queues") return;
    const at = now();
    for (const [name, card] of this.cards ?? []) {
      const ended = this.app.state.series.ended(name, at);
      card.line.draw(ended);
      put(card.rate, `${rate(Series.recent(ended))}/s`);
    }
  }

  /** @param {string} name */
  #card(name) {
    const { app } = this;
    const figure = (/** @type {string} */ label) => {
      const value = h("dd.tabular", {}, "–");
      return { value, pair: h("div", {}, h("dt", {}, label), value) };
    };
    const [depth, running, perSecond, failed, completed] = [
      "waiting",
      "running",
      "throughput",
      "failed",
      "completed",
    ].map(figure);
    const line = new Line("running");
    const state = h("span.state", {});
    const button = app.isAdmin
      ? h("button", {
          type: "button",
          "data-pause": name,
          onclick: async () => {
            button.disabled = true;
            try {
              await app.api.post(`/api/queues/${encodeURIComponent(name)}/${button.dataset.to}`);
            } catch (error) {
              toast(`${name}: ${message(error)}`, "bad");
            } finally {
              button.disabled = false;
            }
          },
        })
      : null;
    const element = h(
      "section.card.queue-card",
      { "aria-label": `Queue ${name}` },
      h(
        "header",
        {},
        h(
          "h2",
          {},
          h(
            "button.as-link",
            {
              type: "button",
              title: "Its jobs",
              onclick: () => app.go({ view: "jobs", filter: { ...noFilter(), queue: [name] } }),
            },
            name,
          ),
        ),
        state,
        h("span.grow"),
        button,
      ),
      h("dl.figures", {}, depth.pair, running.pair, perSecond.pair, failed.pair, completed.pair),
      line.element,
    );
    return {
      element,
      line,
      state,
      button,
      depth: depth.value,
      running: running.value,
      rate: perSecond.value,
      failed: failed.value,
      completed: completed.value,
    };
  }
}

customElements.define("jc-queues", Queues);
