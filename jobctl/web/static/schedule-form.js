/** Making and editing a schedule. */
import { toast } from "./actions.js";
import { ApiError } from "./api.js";
import { message } from "./app.js";
import { inWords } from "./cron.js";
import { Part, h, put } from "./dom.js";
import { BadField } from "./fields.js";
import { DataForm, labelled } from "./form.js";
import { visible } from "./format.js";

const PATH = "/api/jobs/schedules";

class ScheduleForm extends Part {
  build() {
    this.data = new DataForm();
    /** @type {any} the schedule that is edited; null: a new one */
    this.editing = null;
    const text = (/** @type {Record<string, any>} */ more = {}) =>
      h("input", { type: "text", autocomplete: "off", spellcheck: "false", ...more });
    const zones = h(
      "datalist",
      { id: "zones" },
      ["UTC", ...(Intl.supportedValuesOf?.("timeZone") ?? [])].map((zone) => h("option", { value: zone })),
    );
    this.words = h("p.muted.small", { "aria-live": "polite" });
    this.job = h("select", { onchange: () => this.#chosen() });
    this.controls = {
      name: labelled("Name", text({ maxlength: "100" }), "", true),
      cron: labelled(
        "When",
        text({ placeholder: "30 2 * * *" }),
        "cron: minute, hour, day of month, month, weekday",
        true,
      ),
      timezone: labelled("Time zone", text({ list: "zones" })),
      jobName: labelled("Job", this.job, "", true),
      queue: labelled("Queue", text({ placeholder: "default" })),
      priority: labelled("Priority", h("input", { type: "number", step: "1", placeholder: "0" })),
      tags: labelled("Tags", text(), "commas between them"),
      missed: labelled(
        "If no server ran then",
        h(
          "select",
          {},
          h("option", { value: "skip" }, "leave it out"),
          h("option", { value: "once" }, "run once, later"),
        ),
      ),
    };
    this.heading = h("h2", { id: "schedule-title" });
    this.wrong = h("p.error", { role: "alert" });
    this.submit = h("button.primary", { type: "submit" }, "Save");
    const c = this.controls;
    this.dialog = h(
      "dialog.sheet-dialog",
      { "aria-labelledby": "schedule-title" },
      h(
        "form",
        { novalidate: true, onsubmit: (/** @type {Event} */ event) => this.#send(event), oninput: () => this.#say() },
        h(
          "header",
          {},
          this.heading,
          h("button.quiet", { type: "button", "aria-label": "Close", onclick: () => this.dialog.close() }, "✕"),
        ),
        h(
          "div.scroll",
          {},
          c.name.element,
          h("div.two", {}, h("div", {}, c.cron.element, this.words), c.timezone.element),
          zones,
          c.jobName.element,
          this.data.element,
          h(
            "details",
            {},
            h("summary", {}, "Options"),
            h("div.two", {}, c.queue.element, c.priority.element, c.tags.element, c.missed.element),
          ),
          this.wrong,
        ),
        h(
          "div.buttons",
          {},
          h("button", { type: "button", onclick: () => this.dialog.close() }, "Cancel"),
          this.submit,
        ),
      ),
    );
    this.append(this.dialog);
  }

  /** @param {any} schedule null: a new one */
  async open(schedule) {
    const { api } = this.app;
    try {
      const [handlers, whole] = await Promise.all([
        api.get("/api/handlers"),
        schedule?.omitted ? api.get(`${PATH}/${encodeURIComponent(schedule.name)}`) : { data: schedule },
      ]);
      this.handlers = handlers.data.handlers;
      this.editing = whole.data;
    } catch (error) {
      return toast(message(error), "bad");
    }
    const names = this.handlers.map((/** @type {any} */ handler) => handler.name);
    const known = this.editing?.jobName;
    if (known && !names.includes(known)) names.push(known);
    this.job.replaceChildren(...names.map((/** @type {string} */ name) => h("option", { value: name }, name)));
    put(this.heading, this.editing ? `Edit ${this.editing.name}` : "New schedule");
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
    const from = this.editing ?? {
      name: "",
      cron: "",
      timezone: zone,
      jobName: names[0] ?? "",
      queue: "default",
      priority: 0,
      tags: [],
      missed: "skip",
    };
    for (const [name, { input, fail }] of Object.entries(/** @type {any} */ (this.controls))) {
      input.value =
        name === "tags" ? from.tags.join(", ") : from[name] === "default" || from[name] === 0 ? "" : from[name];
      fail("");
    }
    put(this.wrong, "");
    if (this.controls) this.controls.name.input.disabled = this.editing !== null;
    this.#chosen(this.editing?.data ?? {});
    this.#say();
    this.dialog.showModal();
  }

  /** @param {Record<string, any>} [values] */
  #chosen(values = {}) {
    const handler = this.handlers?.find((/** @type {any} */ each) => each.name === this.job.value);
    this.data.build(handler ? handler.fields : null, values);
  }

  #say() {
    const cron = this.controls?.cron.input.value.trim() ?? "";
    put(this.words, inWords(cron) ?? "");
  }

  /** @param {Event} event */
  async #send(event) {
    event.preventDefault();
    const controls = /** @type {NonNullable<typeof this.controls>} */ (this.controls);
    const typed = (/** @type {keyof typeof controls} */ name) => controls[name].input.value.trim();
    this.submit.disabled = true;
    put(this.wrong, "");
    try {
      const body = {
        cron: typed("cron"),
        timezone: typed("timezone") || "UTC",
        jobName: typed("jobName"),
        data: this.data.value(),
        queue: typed("queue") || "default",
        priority: Number(typed("priority") || 0),
        tags: typed("tags")
          .split(",")
          .map((/** @type {string} */ each) => each.trim())
          .filter(Boolean),
        missed: typed("missed"),
        ...(this.editing
          ? { enabled: this.editing.enabled, maxAttempts: this.editing.maxAttempts, timeout: this.editing.timeout }
          : { name: typed("name") }),
      };
      const { data } = this.editing
        ? await this.app.api.send("PUT", `${PATH}/${encodeURIComponent(this.editing.name)}`, { body })
        : await this.app.api.post(PATH, body);
      this.dialog.close();
      toast(`${data.name} saved`);
      if (this.app.stream.link.kind === "polling") this.app.polled();
    } catch (error) {
      const field = error instanceof BadField ? `data.${error.field}` : error instanceof ApiError ? error.field : null;
      const text = visible(message(error));
      const control = controls[/** @type {keyof typeof controls} */ (field?.split(/[.[]/)[0])];
      if (field?.startsWith("data") && this.data.fail(field, text)) return;
      if (control) {
        const details = control.element.closest("details");
        if (details) details.open = true;
        control.fail(text);
        control.input.focus();
      } else put(this.wrong, text);
    } finally {
      this.submit.disabled = false;
    }
  }
}

customElements.define("jc-schedule-form", ScheduleForm);
