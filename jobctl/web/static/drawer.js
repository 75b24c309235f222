/** One job: what it is, what happened to it, what it said, and what can be done about it. */
import { act, ask, copy } from "./actions.js";
import { act as command, again } from "./command.js";
import { Part, attribute, h, part, put } from "./dom.js";
import { clock, count, duration, exact, json, now, relative, span, tail, visible, visibleLines } from "./format.js";
import "./job-log.js";
import { GLYPHS, TERMINAL, allowed } from "./states.js";
import { timeLeft, timeline } from "./timeline.js";

/** As narrow as that, the drawer covers the page (`dashboard.css` says the same). */
const COVERS = "(max-width: 640px)";
const ACTIONS = /** @type {const} */ (["retry", "cancel", "delete"]);

class JobDrawer extends Part {
  build() {
    const { app } = this;
    this.hidden = true;
    this.glyph = h("span.glyph", { "aria-hidden": "true" });
    this.status = h("span.status-word");
    this.heading = h("h2", { id: "job-title", tabindex: "-1" });
    this.idButton = h("button.quiet.small.tabular", {
      type: "button",
      title: "Copy the id",
      onclick: () => copy(app.route.job ?? "", "Id"),
    });
    this.buttons = ACTIONS.map((action) => ({
      action,
      button: h(
        "button",
        {
          type: "button",
          "data-action": action,
          class: action === "delete" ? "danger" : "",
          onclick: () => this.#act(action),
        },
        action[0].toUpperCase() + action.slice(1),
      ),
    }));
    this.commands = h(
      "select",
      { "aria-label": "Copy as jobctl command", onchange: () => this.#copy() },
      h("option", { value: "" }, "Copy command…"),
      [
        ["again", "enqueue one like it"],
        ["watch", "watch it"],
        ["log", "follow its log"],
        ["retry", "retry it"],
        ["cancel", "cancel it"],
      ].map(([value, label]) => h("option", { value }, label)),
    );
    this.bar = h("span.bar");
    this.note = h("p.note");
    this.progress = h(
      "div.progress-block",
      { role: "progressbar", "aria-label": "Progress", "aria-valuemin": "0", "aria-valuemax": "100" },
      this.bar,
    );
    this.facts = h("dl.facts");
    this.error = h("pre.error-text", { tabindex: "0", role: "region", "aria-label": "Error" });
    this.errorPart = this.#section("Error", this.error);
    this.steps = h("ol.timeline");
    this.stepsPart = this.#section("Timeline", this.steps);
    this.data = h("pre", { tabindex: "0", role: "region", "aria-label": "Data" });
    this.dataPart = this.#section("Data", this.data);
    this.result = h("pre", { tabindex: "0", role: "region", "aria-label": "Result" });
    this.more = h("button", { type: "button", onclick: () => app.reload() }, "Load the whole result");
    this.resultPart = this.#section("Result", this.result, this.more);
    this.log = part("jc-job-log", app);
    this.trouble = h("p.error.pad", { role: "alert" });
    this.content = h(
      "div.drawer-body",
      {},
      h("div", {}, this.progress, this.note),
      this.facts,
      this.errorPart,
      this.stepsPart,
      this.dataPart,
      this.resultPart,
      this.log,
    );
    this.pane = h(
      "aside.drawer",
      { "aria-labelledby": "job-title" },
      h(
        "header",
        {},
        h("div.drawer-title", {}, h("p", {}, this.glyph, this.status, this.idButton), this.heading),
        h("button.quiet", { type: "button", "aria-label": "Close the job", onclick: () => app.close() }, "✕"),
      ),
      h(
        "div.actions",
        {},
        this.buttons.map(({ button }) => button),
        this.commands,
      ),
      this.trouble,
      this.content,
    );
    this.append(this.pane);
    this.narrow = matchMedia(COVERS);
    this.narrow.addEventListener("change", () => this.#cover(), { signal: this.ended });
    this.paints(["detail", "route", "identity"], () => this.#paint());
    this.paints(["tick"], () => this.#tick());
    this.#paint();
  }

  /** @param {string} title @param {...any} content */
  #section(title, ...content) {
    return h("section", {}, h("h3", {}, title), ...content);
  }

  #paint() {
    const { app } = this;
    const { detail } = app.state;
    const was = this.shownId;
    const active = /** @type {HTMLElement|null} */ (document.activeElement);
    const inside = this.contains(active);
    if (detail && was !== detail.id && !inside) this.opener = active === document.body ? null : active;
    this.hidden = detail === null;
    attribute(document.documentElement, "data-drawer", detail !== null);
    this.shownId = detail?.id;
    this.#cover();
    if (!detail) {
      if (was && (inside || !active || active === document.body)) this.#back(was);
      return;
    }
    if (was !== detail.id) {
      this.steps.replaceChildren();
      this.drawn = "";
      requestAnimationFrame(() => this.heading.focus({ preventScroll: true }));
    }
    const failed = app.detailError?.id === detail.id ? app.detailError.error : null;
    const job = detail.job && app.state.shown(detail.job);
    put(
      this.trouble,
      detail.gone || failed?.status === 404
        ? detail.job
          ? "This job has been deleted."
          : "There is no such job."
        : failed
          ? failed.message
          : "",
    );
    this.trouble.hidden = !this.trouble.textContent;
    this.content.hidden = !job;
    put(this.idButton, tail(detail.id));
    put(this.heading, job ? job.name : "Job");
    for (const { action, button } of this.buttons ?? [])
      button.disabled = !job || detail.gone || job.guessed === true || !allowed(action, job);
    this.commands.disabled = !job;
    if (!job) {
      put(this.glyph, "");
      put(this.status, failed || detail.gone ? "" : "loading…");
      return;
    }
    attribute(this.pane, "data-status", job.status);
    put(this.glyph, GLYPHS[job.status]);
    put(this.status, job.cancelRequested && job.status === "running" ? "stopping" : job.status);
    this.#facts(job);
    put(this.error, visibleLines(job.error ?? ""));
    this.errorPart.hidden = !job.error;
    put(this.data, detail.job?.omitted?.includes("data") ? "…" : json(job.data));
    const whole = !job.omitted?.includes("result");
    put(this.result, whole ? json(job.result) : "larger than 4 KiB");
    this.more.hidden = whole;
    this.resultPart.hidden = job.status !== "completed";
    this.#steps(timeline(detail.updates));
    this.#tick();
  }

  /** What the drawer covers is out of reach, also for the keyboard and screen readers. */
  #cover() {
    const covers = !this.hidden && this.narrow?.matches === true;
    const behind = /** @type {HTMLElement[]} */ ([...(this.parentElement?.children ?? [])]).filter(
      (each) => each !== this && each.localName !== "jc-new-job", // its dialog comes before the drawer
    );
    const lost = covers && behind.some((each) => each.contains(document.activeElement));
    for (const each of behind) each.inert = covers;
    if (lost) this.heading.focus({ preventScroll: true });
  }

  /** The focus goes back to where it came from, else to the job's row, else to the view. @param {string} id */
  #back(id) {
    const places = [this.opener, document.querySelector(`[data-open="${id}"]`), document.querySelector("#main")];
    /** @type {HTMLElement|undefined} */ (places.find((each) => each?.checkVisibility()))?.focus({
      preventScroll: true,
    });
  }

  /** @param {import("./states.js").Job} job */
  #facts(job) {
    const rows = [
      ["Queue", job.queue],
      ["Attempts", `${job.attempts} of ${job.maxAttempts}`],
      ["Priority", job.priority ? count(job.priority) : null],
      ["Created", job.createdAt, true],
      ["By", visible(job.createdBy)],
      [
        "Due",
        job.scheduledFor && !TERMINAL.has(job.status) && job.status !== "running" ? job.scheduledFor : null,
        true,
      ],
      ["Started", job.startedAt, true],
      ["On", job.processingBy && visible(job.processingBy)],
      ["Ended", job.completedAt, true],
      ["Time-out", span(job.timeout)],
      ["Unique key", job.uniqueKey && visible(job.uniqueKey)],
      ["Tags", job.tags.map((tag) => visible(tag)).join(", ") || null],
    ].filter(([, value]) => value !== null);
    const key = JSON.stringify(rows);
    if (key === this.drawn) return;
    this.drawn = key;
    this.facts.replaceChildren(
      ...rows.map(([label, value, isTime]) =>
        h(
          "div",
          {},
          h("dt", {}, label),
          h(
            "dd",
            isTime ? { title: exact(String(value)) } : {},
            isTime ? [clock(String(value)), " ", h("span.muted", { "data-when": value })] : h("bdi", {}, value),
          ),
        ),
      ),
    );
  }

  /** @param {import("./timeline.js").Entry[]} entries */
  #steps(entries) {
    while (this.steps.children.length > entries.length) this.steps.lastElementChild?.remove();
    entries.forEach((entry, i) => {
      let item = this.steps.children[i];
      if (!item)
        this.steps.append(
          (item = h(
            "li",
            {},
            h("span.glyph", { "aria-hidden": "true" }),
            h("span.step"),
            h("time.muted.tabular"),
            h("details.error-text", {}, h("summary"), h("pre")),
          )),
        );
      const [glyph, step, when, error] = item.children;
      const outcome = entry.kind === "attempt" ? (entry.until === null ? "running" : entry.outcome) : entry.kind;
      attribute(item, "data-status", String(outcome));
      put(
        glyph,
        GLYPHS[/** @type {keyof typeof GLYPHS} */ (outcome)] ??
          (entry.kind === "asked to stop" ? "■" : entry.kind === "retried" ? "↻" : "·"),
      );
      put(step, told(entry));
      put(when, clock(entry.at));
      attribute(when, "title", exact(entry.at));
      const [first, ...rest] = visibleLines(entry.error ?? "").split("\n");
      put(error.children[0], first.slice(0, 300));
      put(error.children[1], rest.join("\n").trim() || first.slice(300));
      attribute(error, "data-more", rest.length > 0 || first.length > 300);
      attribute(error, "hidden", !entry.error);
    });
  }

  #tick() {
    const { detail } = this.app.state;
    if (!detail?.job) return;
    const at = now();
    const job = this.app.state.shown(detail.job);
    const value = job.status === "completed" ? 1 : (job.progress?.value ?? 0);
    this.bar.style.setProperty("--value", String(value));
    attribute(this.progress, "aria-valuenow", String(Math.floor(value * 100)));
    const left = timeLeft(job, detail.toldAt, at);
    const ran =
      job.startedAt && (job.status === "running" || TERMINAL.has(job.status))
        ? duration(
            ((job.completedAt && job.status !== "running" ? Date.parse(job.completedAt) : at) -
              Date.parse(job.startedAt)) /
              1000,
          )
        : null;
    const parts = [
      job.status === "running" || job.progress ? `${Math.floor(value * 100)}%` : null,
      job.progress?.message && (job.status !== "completed" || job.progress.value === 1)
        ? visible(job.progress.message.slice(0, 500))
        : null,
      ran ? `took ${ran}`.replace(/^took/, job.status === "running" ? "for" : "took") : null,
      left !== null ? `about ${span(left)} left` : null,
    ];
    put(this.note, parts.filter(Boolean).join(" · "));
    this.progress.hidden = !(job.status === "running" || job.progress);
    for (const each of this.facts.querySelectorAll("[data-when]"))
      put(each, relative(/** @type {HTMLElement} */ (each).dataset.when ?? "", at));
  }

  /** @param {"retry"|"cancel"|"delete"} action */
  async #act(action) {
    const job = this.app.state.detail?.job;
    if (!job) return;
    if (action === "delete" && !(await ask(`Delete ${job.name}?`, "It is gone for good, with its log.", "Delete")))
      return;
    await act(this.app, action, job);
  }

  #copy() {
    const what = this.commands.value;
    this.commands.value = "";
    const job = this.app.state.detail?.job;
    if (!job || !what) return;
    const text =
      what === "again"
        ? again(job)
        : what === "watch"
          ? `jobctl watch ${job.id}`
          : what === "log"
            ? `jobctl jobs logs ${job.id} --follow`
            : command(/** @type {any} */ (what), [job.id]);
    void copy(text, "Command");
  }
}

/** @param {import("./timeline.js").Entry} entry */
function told(entry) {
  if (entry.kind === "attempt") {
    const took = entry.until ? duration((Date.parse(entry.until) - Date.parse(entry.at)) / 1000) : null;
    const end =
      took === null
        ? "running"
        : entry.outcome === "retrying"
          ? `failed after ${took}`
          : entry.outcome === "given back"
            ? `given back after ${took}: the server stopped`
            : `${entry.outcome} after ${took}`;
    const next =
      entry.next && entry.until
        ? `, again ${span((Date.parse(entry.next) - Date.parse(entry.until)) / 1000)} later`
        : "";
    return `Attempt ${entry.attempt}: ${end}${next}`;
  }
  if (entry.kind === "created") return entry.next ? `Created, due ${clock(entry.next)}` : "Created";
  return {
    retried: "Put back by hand",
    cancelled: "Cancelled",
    "asked to stop": "Asked to stop",
    "given back": "Given back",
  }[entry.kind];
}

customElements.define("jc-job", JobDrawer);
