/** Schedules, for admins: when each runs next and ran last, in words and in the reader's zone. */
import { ask, toast } from "./actions.js";
import { message } from "./app.js";
import { inWords } from "./cron.js";
import { Part, attribute, h, part, put } from "./dom.js";
import { count, day, exact, now, plural, relative, visible } from "./format.js";
import "./schedule-form.js";

const PATH = "/api/jobs/schedules";

class Schedules extends Part {
  build() {
    const { app } = this;
    /** @type {Map<string, any>} */
    this.cards = new Map();
    this.form = /** @type {any} */ (part("jc-schedule-form", app));
    this.list = h("div.schedules");
    this.empty = h(
      "div.empty",
      {},
      h("h2", {}, "No schedules yet"),
      h(
        "p",
        {},
        "A schedule enqueues a job whenever its time comes: every night, every five minutes, on Mondays at nine.",
      ),
      h("button.primary", { type: "button", onclick: () => this.form.open(null) }, "New schedule"),
    );
    this.append(
      h(
        "div.view-head",
        {},
        h("h1.view-title", {}, "Schedules"),
        h("span.grow"),
        h("button", { type: "button", "data-new-schedule": "", onclick: () => this.form.open(null) }, "+ New schedule"),
      ),
      this.list,
      this.empty,
      this.form,
    );
    this.paints(["schedules", "identity", "route"], () => this.#paint());
    this.paints(["tick"], () => this.#tick());
    this.#paint();
  }

  #paint() {
    const { schedules } = this.app.state;
    if (this.app.route.view === "schedules" && schedules === null && this.app.stream.link.kind === "polling")
      this.app.polled();
    if (this.app.route.view !== "schedules" || !this.list) return;
    this.empty.hidden = schedules === null || schedules.length > 0;
    const names = new Set((schedules ?? []).map((each) => each.name));
    for (const [name, card] of this.cards) if (!names.has(name)) (card.element.remove(), this.cards.delete(name));
    (schedules ?? []).forEach((schedule, i) => {
      let card = this.cards.get(schedule.name);
      if (!card) this.cards.set(schedule.name, (card = this.#card(schedule.name)));
      if (this.list.children[i] !== card.element) this.list.insertBefore(card.element, this.list.children[i] ?? null);
      this.#fill(card, schedule);
    });
    this.#tick();
  }

  /** @param {string} name */
  #card(name) {
    const { app } = this;
    const card = /** @type {any} */ ({
      words: h("p.cron", {}),
      next: h("dd", {}),
      last: h("dd", {}),
      job: h("dd", {}),
      runs: h("dd.tabular", {}),
      error: h("p.error", {}),
      source: h("span.tag", {}, "from the configuration"),
    });
    const button = (/** @type {string} */ label, /** @type {() => any} */ run, more = {}) =>
      h("button", { type: "button", "aria-label": `${label} ${name}`, onclick: run, ...more }, label);
    card.toggle = h("input", {
      type: "checkbox",
      role: "switch",
      "aria-label": `${name} is enabled`,
      onchange: () => this.#do(name, card.toggle.checked ? "enable" : "disable"),
    });
    card.edit = button("Edit", () => this.form.open(card.schedule));
    card.remove = button(
      "Delete",
      async () =>
        (await ask(`Delete ${name}?`, "Jobs that it has made stay.", "Delete")) &&
        this.#send("DELETE", name, "", `${name} deleted`),
    );
    card.element = h(
      "section.card.schedule",
      { "aria-label": `Schedule ${name}`, "data-schedule": name },
      h(
        "header",
        {},
        h("label.switch", {}, card.toggle, h("h2", {}, name)),
        card.source,
        h("span.grow"),
        button("Run now", () => this.#run(name)),
        card.edit,
        card.remove,
      ),
      card.words,
      h(
        "dl.figures",
        {},
        h("div", {}, h("dt", {}, "next run"), card.next),
        h("div", {}, h("dt", {}, "last run"), card.last),
        h("div", {}, h("dt", {}, "job"), card.job),
        h("div", {}, h("dt", {}, "jobs made"), card.runs),
      ),
      card.error,
    );
    card.times = {
      next: h("time", {}),
      last: h("button.as-link", {
        type: "button",
        onclick: () => card.schedule.lastJobId && app.open(card.schedule.lastJobId),
      }),
    };
    card.next.append(card.times.next);
    card.last.append(card.times.last);
    return card;
  }

  /** @param {any} card @param {any} schedule */
  #fill(card, schedule) {
    card.schedule = schedule;
    const fixed = schedule.source === "config";
    const words = inWords(schedule.cron);
    put(
      card.words,
      `${words ? `${words[0].toUpperCase()}${words.slice(1)}` : ""}${words ? ` · ${schedule.cron}` : schedule.cron} · ${schedule.timezone}`,
    );
    card.toggle.checked = schedule.enabled;
    card.toggle.disabled = fixed;
    card.edit.hidden = card.remove.hidden = fixed;
    card.source.hidden = !fixed;
    attribute(card.element, "data-off", !schedule.enabled);
    put(card.job, `${schedule.jobName}${schedule.queue === "default" ? "" : ` in ${schedule.queue}`}`);
    put(card.runs, count(schedule.runCount));
    put(card.error, schedule.error ? visible(schedule.error) : "");
  }

  #tick() {
    if (this.app.route.view !== "schedules") return;
    const at = now();
    for (const { schedule, times } of this.cards?.values() ?? []) {
      put(
        times.next,
        schedule.nextRun
          ? `${relative(schedule.nextRun, at)} (${day(schedule.nextRun)})`
          : schedule.enabled
            ? "never"
            : "disabled",
      );
      attribute(times.next, "title", schedule.nextRun ? exact(schedule.nextRun) : null);
      put(times.last, schedule.lastRun ? relative(schedule.lastRun, at) : "not yet");
      attribute(times.last, "title", schedule.lastRun ? `${exact(schedule.lastRun)}: open its job` : null);
      times.last.disabled = !schedule.lastJobId;
    }
  }

  /** @param {string} name */
  async #run(name) {
    const made = await this.#send("POST", name, "/trigger", null);
    if (made)
      toast(`${name}: ${plural(1, "job")} enqueued`, "good", { label: "Open", run: () => this.app.open(made.id) });
  }

  /** @param {string} name @param {"enable"|"disable"} what */
  async #do(name, what) {
    const card = this.cards?.get(name);
    card.toggle.disabled = true;
    if (!(await this.#send("POST", name, `/${what}`, null))) card.toggle.checked = what !== "enable";
    card.toggle.disabled = false;
  }

  /** @param {string} method @param {string} name @param {string} rest @param {string|null} done */
  async #send(method, name, rest, done) {
    try {
      const { data } = await this.app.api.send(method, `${PATH}/${encodeURIComponent(name)}${rest}`);
      if (done) toast(done);
      if (this.app.stream.link.kind === "polling") this.app.polled();
      return data;
    } catch (error) {
      toast(`${name}: ${message(error)}`, "bad");
      return null;
    }
  }
}

customElements.define("jc-schedules", Schedules);
