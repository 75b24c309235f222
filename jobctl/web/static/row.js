/** One row of the table. Its cells are kept, and only those are touched whose text is another. */
import { attribute, h, put } from "./dom.js";
import { write } from "./filter.js";
import { age, duration, exact, relative, tail, visible } from "./format.js";
import { GLYPHS, TERMINAL } from "./states.js";

export class Row {
  /** @param {import("./app.js").App} app @param {import("./states.js").Job} job */
  constructor(app, job) {
    this.app = app;
    this.id = job.id;
    this.job = job;
    /** @type {import("./filter.js").Route|null} */
    this.route = null;
    this.box = h("input", {
      type: "checkbox",
      "data-select": job.id,
      "aria-label": `Select ${job.name} ${tail(job.id)}`,
    });
    this.glyph = h("span.glyph", { "aria-hidden": "true" });
    this.status = h("span.status-word", {});
    this.link = h("a.name", { "data-open": job.id }, job.name);
    this.under = h("span.under", {});
    this.queue = h("td.queue", { title: job.queue }, job.queue);
    this.bar = h("span.bar", {});
    this.note = h("span.note", {});
    this.attempts = h("td.attempts.tabular", {});
    this.age = h("time.tabular", { datetime: job.createdAt, title: exact(job.createdAt) });
    this.took = h("td.took.tabular", {});
    this.tags = h(
      "td.tags",
      {},
      job.tags.map((tag) =>
        h(
          "button.tag",
          { type: "button", tabindex: "-1", title: `Only ${visible(tag)}`, "data-tag": tag },
          h("bdi", {}, visible(tag)),
        ),
      ),
    );
    this.element = h(
      "tr",
      { "data-id": job.id },
      h("td.pick", {}, this.box),
      h("td.status", {}, this.glyph, this.status),
      h("th.what", { scope: "row" }, this.link, h("span.id.tabular", {}, tail(job.id)), this.under),
      this.queue,
      h("td.progress", {}, this.bar, this.note),
      this.attempts,
      h("td.age", {}, this.age),
      this.took,
      this.tags,
    );
  }

  /** The job's own address, with the filter that is set. @param {import("./filter.js").Route} route */
  follow(route) {
    if (route === this.route) return;
    this.route = route;
    attribute(this.link, "href", write({ ...route, job: this.id }));
  }

  /** @param {import("./states.js").Job} job @param {boolean} left @param {number} now */
  update(job, left, now) {
    const shown = this.app.state.shown(job);
    this.job = job;
    const { element } = this;
    attribute(element, "data-status", shown.status);
    attribute(element, "data-left", left || shown.going === true);
    attribute(element, "data-guessed", shown.guessed === true);
    put(this.glyph, GLYPHS[shown.status]);
    put(this.status, shown.cancelRequested && shown.status === "running" ? "stopping" : shown.status);
    put(this.attempts, `${shown.attempts}/${shown.maxAttempts}`);
    attribute(this.status, "title", shown.status === "running" && job.processingBy ? `on ${visible(job.processingBy)}` : null);
    attribute(this.bar, "data-used", shown.status === "running" && shown.progress !== null);
    this.bar.style.setProperty("--value", String(shown.progress?.value ?? 0));
    this.tick(now);
  }

  /** What time alone changes. @param {number} now */
  tick(now) {
    const job = this.app.state.shown(this.job);
    put(this.age, age((now - Date.parse(job.createdAt)) / 1000));
    const end =
      job.completedAt && TERMINAL.has(job.status) ? Date.parse(job.completedAt) : job.status === "running" ? now : null;
    put(this.took, job.startedAt && end !== null ? duration((end - Date.parse(job.startedAt)) / 1000) : "");
    const note = [this.#note(job, now), this.#place(job)].filter(Boolean).join(" · ");
    put(this.note, note);
    put(this.under, note ? `${job.queue} · ${note}` : job.queue);
  }

  /** Where it runs, if there is more than one place. @param {import("./states.js").Job} job */
  #place(job) {
    const several = (this.app.state.workers?.length ?? 0) > 1;
    return several && job.status === "running" ? visible(job.processingBy ?? "") : "";
  }

  /** @param {import("./states.js").Job} job @param {number} now */
  #note(job, now) {
    if (job.status === "failed" || job.status === "retrying") {
      const again =
        job.status === "retrying" && job.scheduledFor && Date.parse(job.scheduledFor) > now
          ? `again ${relative(job.scheduledFor, now)}: `
          : "";
      return `${again}${visible((job.error ?? "").slice(0, 200))}`;
    }
    if (job.status === "pending" && job.scheduledFor && Date.parse(job.scheduledFor) > now)
      return relative(job.scheduledFor, now);
    if (!job.progress || job.status === "completed" || job.status === "cancelled" || job.status === "pending")
      return "";
    const { value, message } = job.progress;
    return `${Math.floor(value * 100)}%${message ? ` ${visible(message.slice(0, 200))}` : ""}`;
  }
}
