/** What can be done to the selected jobs, or to all that match. */
import { actAll, actOnMatching, ask, copy } from "./actions.js";
import { message } from "./app.js";
import { act } from "./command.js";
import { Part, attribute, h, put } from "./dom.js";
import { toBulk } from "./filter.js";
import { count, plural } from "./format.js";
import { allowed } from "./states.js";

const ACTIONS = /** @type {const} */ (["retry", "cancel", "delete"]);

class Bulk extends Part {
  build() {
    const { app } = this;
    this.number = h("span");
    this.count = h("strong.tabular", {}, this.number, h("span.wide-only", {}, " selected"));
    this.buttons = ACTIONS.map((action) => ({
      action,
      button: h("button", {
        type: "button",
        "data-bulk": action,
        class: action === "delete" ? "danger" : "",
        onclick: () => this.#selected(action),
      }),
    }));
    this.bar = h(
      "div.bulk",
      { role: "toolbar", "aria-label": "Selected jobs" },
      this.count,
      this.buttons.map(({ button }) => button),
      h(
        "button.quiet",
        {
          type: "button",
          onclick: () =>
            copy(
              act(
                "retry",
                this.#chosen().map((job) => job.id),
              ),
              "Command",
            ),
        },
        "Copy command",
      ),
      h("button.quiet", { type: "button", "aria-label": "Clear the selection", onclick: () => app.select([]) }, "✕"),
    );
    this.append(this.bar);
    this.paints(["selection", "rows", "route", "identity"], () => this.#paint());
    this.#paint();
  }

  #chosen() {
    const { selection, state } = this.app;
    return state.page.rows.filter((job) => selection.has(job.id));
  }

  #paint() {
    const chosen = this.#chosen();
    this.bar.hidden = chosen.length === 0 || this.app.route.view !== "jobs";
    attribute(document.documentElement, "data-bulk", !this.bar.hidden);
    if (this.bar.hidden) return;
    put(this.number, count(chosen.length));
    for (const { action, button } of this.buttons ?? []) {
      const n = chosen.filter((job) => allowed(action, this.app.state.shown(job))).length;
      put(button, `${action[0].toUpperCase()}${action.slice(1)} ${n}`);
      button.disabled = n === 0;
    }
  }

  /** @param {"retry"|"cancel"|"delete"} action */
  async #selected(action) {
    const jobs = this.#chosen();
    const n = jobs.filter((job) => allowed(action, job)).length;
    if (
      action === "delete" &&
      !(await ask(`Delete ${plural(n, "job")}?`, "They are gone for good, with their logs.", "Delete"))
    )
      return;
    await actAll(this.app, action, jobs);
    this.app.select([]);
  }
}

/** All that match the filter, on every page. */
class Matching extends Part {
  build() {
    this.matching = h(
      "select.all-matching",
      { "aria-label": "Act on all jobs that match the filter", onchange: () => this.#matching() },
      h("option", { value: "" }, "Act on all…"),
      ACTIONS.map((action) =>
        h("option", { value: action }, `${action[0].toUpperCase()}${action.slice(1)} all that match…`),
      ),
    );
    this.append(this.matching);
  }

  async #matching() {
    const { app } = this;
    const action = /** @type {"retry"|"cancel"|"delete"} */ (this.matching.value);
    this.matching.value = "";
    const filter = toBulk(app.route.filter, app.who?.subject ?? "");
    try {
      const { data } = await app.api.post("/api/jobs/bulk", { action, filter, dryRun: true });
      const skipped = data.skipped ? ` ${plural(data.skipped, "other job")} match too, but cannot.` : "";
      if (!data.changed)
        return void (await ask("There is none", `No job that matches can be taken for ${action}.${skipped}`, null));
      if (
        await ask(
          `${action[0].toUpperCase()}${action.slice(1)} ${plural(data.changed, "job")}?`,
          `All that match the filter, on every page.${skipped}`,
          action[0].toUpperCase() + action.slice(1),
        )
      ) {
        await actOnMatching(app, action, filter);
        app.select([]);
      }
    } catch (error) {
      await ask("That did not work", message(error), null);
    }
  }
}

customElements.define("jc-bulk", Bulk);
customElements.define("jc-matching", Matching);
