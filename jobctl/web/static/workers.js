/** Workers, for admins: the processes that run jobs, how busy each is, and when it was last heard. */
import { Part, attribute, h, put } from "./dom.js";
import { exact, now, plural, relative, visible } from "./format.js";

const STATES = { live: "● live", late: "◌ late", lost: "✕ lost" };

class Workers extends Part {
  build() {
    /** @type {Map<string, any>} */
    this.cards = new Map();
    this.list = h("div.queues");
    this.append(h("h1.view-title", {}, "Workers"), this.list);
    this.paints(["workers", "identity", "route"], () => this.#paint());
    this.paints(["tick"], () => this.#tick());
    this.#paint();
  }

  #paint() {
    const { workers } = this.app.state;
    if (this.app.route.view !== "workers" || !this.list) return;
    if (workers === null && this.app.stream.link.kind === "polling") this.app.polled();
    const ids = new Set((workers ?? []).map((each) => each.id));
    for (const [id, card] of this.cards) if (!ids.has(id)) (card.element.remove(), this.cards.delete(id));
    for (const worker of workers ?? []) {
      let card = this.cards.get(worker.id);
      if (!card) {
        this.cards.set(worker.id, (card = this.#card(worker)));
        this.list.append(card.element);
      }
      card.worker = worker;
      put(card.state, STATES[/** @type {keyof typeof STATES} */ (worker.state)] ?? worker.state);
      attribute(card.element, "data-state", worker.state);
      attribute(card.leads, "hidden", !worker.leader);
      put(card.slots, `${worker.running} of ${worker.slots}`);
      card.bar.style.setProperty("--value", String(worker.running / Math.max(1, worker.slots)));
    }
    this.#tick();
  }

  #tick() {
    if (this.app.route.view !== "workers") return;
    const at = now();
    for (const { worker, heard, up } of this.cards?.values() ?? []) {
      put(heard, worker.state === "live" ? "now" : relative(worker.seenAt, at));
      attribute(heard, "title", exact(worker.seenAt));
      put(up, relative(worker.startedAt, at));
      attribute(up, "title", exact(worker.startedAt));
    }
  }

  /** @param {any} worker */
  #card(worker) {
    const figure = (/** @type {string} */ label, text = "") => {
      const value = h("dd.tabular", {}, text);
      return { value, pair: h("div", {}, h("dt", {}, label), value) };
    };
    const [slots, heard, up, version] = [
      figure("slots in use"),
      figure("heard"),
      figure("started"),
      figure("version", visible(worker.version)),
    ];
    const state = h("span.state", {});
    const leads = h("span.tag", { title: "It runs schedules, rescue and pruning for all" }, "leads");
    const bar = h("span.bar", { "data-used": "" });
    const names = worker.handlers.map((/** @type {string} */ name) => visible(name));
    const element = h(
      "section.card.queue-card.worker",
      { "aria-label": `Worker ${visible(worker.id)}`, "data-worker": worker.id },
      h(
        "header",
        {},
        h("h2", {}, h("bdi", {}, visible(worker.id))),
        state,
        leads,
        h("span.grow"),
        h("span.muted", {}, worker.kind === "serve" ? "server" : "worker only"),
      ),
      h("dl.figures", {}, slots.pair, heard.pair, up.pair, version.pair),
      bar,
      h("p.muted", { title: names.join(", ") }, names.length ? `runs ${names.slice(0, 6).join(", ")}` : "runs nothing by name", names.length > 6 ? ` and ${plural(names.length - 6, "other")}` : ""),
    );
    return { element, state, leads, bar, worker, slots: slots.value, heard: heard.value, up: up.value };
  }
}

customElements.define("jc-workers", Workers);
