/** "New job": a form of what the server can run, and the command that does the same. */
import { copy, toast } from "./actions.js";
import { ApiError } from "./api.js";
import { message } from "./app.js";
import { enqueue } from "./command.js";
import { Part, h, put } from "./dom.js";
import { BadField } from "./fields.js";
import { DataForm, labelled } from "./form.js";
import { visible } from "./format.js";

const OTHER = "\u0000other";

class NewJob extends Part {
  build() {
    const { app } = this;
    this.data = new DataForm();
    /** @type {any[]} */
    this.handlers = [];
    this.key = "";
    this.choice = h("select", { onchange: () => this.#chosen() });
    this.other = labelled(
      "Name",
      h("input", {
        type: "text",
        maxlength: "100",
        pattern: "[A-Za-z0-9._:\\-]+",
        autocomplete: "off",
        spellcheck: "false",
      }),
      "for a server that knows it",
    );
    const text = (/** @type {Record<string, any>} */ more) =>
      h("input", { type: "text", autocomplete: "off", spellcheck: "false", ...more });
    const number = (/** @type {Record<string, any>} */ more) => h("input", { type: "number", ...more });
    this.options = {
      queue: labelled("Queue", text({ placeholder: "default", list: "known-queues" })),
      priority: labelled("Priority", number({ step: "1", placeholder: "0" }), "higher runs first"),
      delay: labelled("Delay", number({ min: "0", step: "any" }), "seconds"),
      maxAttempts: labelled("Runs in all", number({ min: "1", max: "1000", step: "1", placeholder: "3" })),
      timeout: labelled("Time-out", number({ min: "0", step: "any", placeholder: "3600" }), "seconds for one run"),
      uniqueKey: labelled("Unique key", text({ maxlength: "200" }), "while one with it is live, that one is meant"),
      tags: labelled("Tags", text({}), "commas between them"),
    };
    this.queues = h("datalist", { id: "known-queues" });
    this.preview = h("code", {});
    this.wrong = h("p.error", { role: "alert" });
    this.submit = h("button.primary", { type: "submit" }, "Enqueue");
    this.dialog = h(
      "dialog.sheet-dialog",
      { "aria-labelledby": "new-job-title" },
      h(
        "form",
        {
          novalidate: true,
          onsubmit: (/** @type {Event} */ event) => this.#send(event),
          oninput: () => this.#changed(),
        },
        h(
          "header",
          {},
          h("h2", { id: "new-job-title" }, "New job"),
          h("button.quiet", { type: "button", "aria-label": "Close", onclick: () => this.dialog.close() }, "✕"),
        ),
        h(
          "div.scroll",
          {},
          labelled("Job", this.choice).element,
          this.other.element,
          this.data.element,
          h(
            "details",
            {},
            h("summary", {}, "Options"),
            h(
              "div.two",
              {},
              Object.values(this.options).map(({ element }) => element),
            ),
            this.queues,
          ),
          h(
            "div.preview",
            {},
            this.preview,
            h(
              "button.quiet",
              { type: "button", onclick: () => copy(this.preview.textContent ?? "", "Command") },
              "Copy",
            ),
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
    document.addEventListener("new-job", () => app.who && this.#open(), { signal: this.ended });
  }

  async #open() {
    if (this.dialog.open) return;
    put(this.wrong, "");
    try {
      this.handlers = (await this.app.api.get("/api/handlers")).data.handlers;
    } catch (error) {
      return toast(message(error), "bad");
    }
    this.choice.replaceChildren(
      ...this.handlers.map((handler) => h("option", { value: handler.name }, handler.name)),
      h("option", { value: OTHER }, "Another name…"),
    );
    this.queues.replaceChildren(
      ...Object.keys(this.app.state.stats?.byQueue ?? {}).map((name) => h("option", { value: name })),
    );
    this.dialog.showModal();
    this.#chosen();
  }

  #chosen() {
    const handler = this.handlers.find((each) => each.name === this.choice.value);
    this.other.element.hidden = handler !== undefined;
    this.data.build(handler ? handler.fields : null);
    put(this.wrong, "");
    this.#changed();
  }

  /** What would be sent. @param {boolean} [draft] as far as it has been filled in */
  #body(draft = false) {
    /** @type {Record<string, any>} */
    const body = {
      name: this.choice.value === OTHER ? this.other.input.value.trim() : this.choice.value,
      data: draft ? this.data.draft() : this.data.value(),
    };
    for (const [name, { input }] of Object.entries(this.options)) {
      const typed = input.value.trim();
      if (typed === "") continue;
      if (name === "tags")
        body.tags = typed
          .split(",")
          .map((/** @type {string} */ each) => each.trim())
          .filter(Boolean);
      else body[name] = input.type === "number" ? Number(typed) : typed;
    }
    return body;
  }

  #changed() {
    this.key = `dashboard-${[...crypto.getRandomValues(new Uint8Array(16))].map((each) => each.toString(16).padStart(2, "0")).join("")}`;
    try {
      put(this.preview, visible(enqueue({ queue: "default", .../** @type {any} */ (this.#body(true)) })));
    } catch {
      put(this.preview, "jobctl enqueue …");
    }
  }

  /** @param {Event} event */
  async #send(event) {
    event.preventDefault();
    put(this.wrong, "");
    this.submit.disabled = true;
    try {
      const { data } = await this.app.api.send("POST", "/api/jobs", { body: this.#body(), key: this.key });
      this.dialog.close();
      toast(`${data.name} enqueued`, "good", { label: "Open", run: () => this.app.open(data.id) });
    } catch (error) {
      this.#failed(error);
    } finally {
      this.submit.disabled = false;
    }
  }

  /** @param {unknown} error */
  #failed(error) {
    const field = error instanceof ApiError ? error.field : null;
    if (error instanceof BadField && this.data.fail(`data.${error.field}`, error.message)) return;
    if (field?.startsWith("data") && this.data.fail(field, visible(message(error)))) return;
    const option = this.options[/** @type {keyof typeof this.options} */ (field?.split(/[.[]/)[0])];
    if (option) {
      /** @type {HTMLDetailsElement} */ (option.element.closest("details")).open = true;
      option.fail(visible(message(error)));
      return option.input.focus();
    }
    if (field === "name" && !this.other.element.hidden) this.other.fail(visible(message(error)));
    else put(this.wrong, visible(message(error)));
  }
}

customElements.define("jc-new-job", NewJob);
