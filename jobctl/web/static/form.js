/** The fields of a job's data as controls, made from what the handler says about itself; or as JSON. */
import { h, put } from "./dom.js";
import { BadField, control, parse, shown } from "./fields.js";
import { visible } from "./format.js";

let serial = 0;

/**
 * A labelled control with a hint and a place for what is wrong with it.
 * @param {string} label
 * @param {any} input
 * @param {string} [hint]
 * @param {boolean} [required]
 */
export function labelled(label, input, hint = "", required = false) {
  const id = `f${++serial}`;
  input.id = id;
  const wrong = h("p.error.small", { id: `${id}e` });
  const help = h("p.muted.small", { id: `${id}h` }, hint);
  input.setAttribute("aria-describedby", `${id}h ${id}e`);
  const check = input.type === "checkbox";
  const name = h("label", { for: id }, label, required ? h("span.needed", { "aria-hidden": "true" }, " *") : null);
  const element = h(
    check ? "div.field.check-field" : "div.field",
    {},
    check ? [input, name] : [name, input],
    hint ? help : null,
    wrong,
  );
  const fail = (/** @type {string} */ text) => {
    put(wrong, text);
    if (text) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  };
  input.addEventListener("input", () => fail(""));
  return { element, input, fail };
}

export class DataForm {
  constructor() {
    this.element = h("div.data-form");
    /** @type {import("./fields.js").Field[]|null} null: as JSON */
    this.fields = null;
    /** @type {Map<string, {input: any, fail: (text: string) => void, touched: boolean}>} */
    this.controls = new Map();
  }

  /**
   * @param {import("./fields.js").Field[]|null} fields
   * @param {Record<string, any>} [values]
   */
  build(fields, values = {}) {
    const known = fields && Object.keys(values).every((name) => fields.some((field) => field.name === name));
    this.fields = known && fields.length ? fields : null;
    this.controls.clear();
    if (this.fields) this.element.replaceChildren(...this.fields.map((field) => this.#control(field, values)));
    else if (fields && !Object.keys(values).length && fields.length === 0)
      this.element.replaceChildren(h("p.muted.small", {}, "It takes no fields."), this.#json(values, true));
    else this.element.replaceChildren(this.#json(values, false));
  }

  /** @param {import("./fields.js").Field} field @param {Record<string, any>} values */
  #control(field, values) {
    const how = control(field);
    const has = Object.hasOwn(values, field.name);
    const value = has ? shown(field, values[field.name]) : "";
    const fallback =
      field.default === undefined || field.default === null
        ? ""
        : visible(typeof field.default === "string" ? field.default : JSON.stringify(field.default)).slice(0, 100);
    const label = field.name;
    const optional = field.required
      ? ""
      : fallback
        ? `${how.hint ? "; " : ""}else ${fallback}`
        : `${how.hint ? "; " : ""}may be left out`;
    let input;
    if (how.kind === "checkbox")
      input = h("input", { type: "checkbox", "prop:checked": has ? value : field.default === true });
    else if (how.kind === "choice")
      input = h(
        "select",
        { required: field.required },
        field.required ? null : h("option", { value: "" }, fallback ? `${fallback} (default)` : "(left out)"),
        (how.choices ?? []).map((each, i) =>
          h("option", { value: String(i) }, visible(typeof each === "string" ? each : JSON.stringify(each))),
        ),
      );
    else if (how.kind === "json")
      input = h("textarea", { rows: "2", spellcheck: "false", required: field.required, placeholder: fallback });
    else if (how.kind === "number")
      input = h("input", {
        type: "number",
        step: how.whole ? "1" : "any",
        min: how.min,
        max: how.max,
        required: field.required,
        placeholder: fallback,
      });
    else
      input = h("input", {
        type: "text",
        required: field.required,
        autocomplete: "off",
        spellcheck: "false",
        maxlength: how.maxLength,
        placeholder: fallback,
      });
    if (how.kind !== "checkbox" && has) input.value = value;
    input.dataset.field = field.name;
    const made = labelled(label, input, `${how.hint}${how.kind === "checkbox" ? "" : optional}`, field.required);
    const entry = { input, fail: made.fail, touched: has };
    input.addEventListener("input", () => (entry.touched = true));
    this.controls.set(field.name, entry);
    return made.element;
  }

  /** @param {Record<string, any>} values @param {boolean} hidden */
  #json(values, hidden) {
    const input = h("textarea.code", { rows: "6", spellcheck: "false" });
    input.value = Object.keys(values).length ? JSON.stringify(values, null, 2) : "{}";
    const made = labelled("Data", input, "a JSON object");
    this.controls.set("", { input, fail: made.fail, touched: true });
    made.element.hidden = hidden;
    return made.element;
  }

  /**
   * The data.
   * @throws {BadField}
   */
  value() {
    if (!this.fields) {
      const text = this.controls.get("")?.input.value ?? "{}";
      try {
        const value = JSON.parse(text || "{}");
        if (value && typeof value === "object" && !Array.isArray(value)) return value;
      } catch {
        // told below
      }
      throw new BadField("", "this is not a JSON object");
    }
    /** @type {Record<string, any>} */
    const data = {};
    for (const field of this.fields) {
      const { input, touched } = /** @type {any} */ (this.controls.get(field.name));
      const check = input.type === "checkbox";
      const value = check
        ? parse(field, touched || field.required ? input.checked : undefined)
        : parse(field, input.value);
      if (value !== undefined) data[field.name] = value;
    }
    return data;
  }

  /** The data as far as it has been filled in. */
  draft() {
    if (!this.fields) return this.value();
    /** @type {Record<string, any>} */
    const data = {};
    for (const field of this.fields) {
      const { input, touched } = /** @type {any} */ (this.controls.get(field.name));
      try {
        const value = parse(
          { ...field, required: false },
          input.type !== "checkbox" ? input.value : touched ? input.checked : undefined,
        );
        if (value !== undefined) data[field.name] = value;
      } catch {
        // not finished
      }
    }
    return data;
  }

  /** Shows what is wrong where it is; false: not a field of the data. @param {string|null} path @param {string} text */
  fail(path, text) {
    const name = (path ?? "").replace(/^data\.?/, "").split(/[.[]/)[0];
    const at = this.controls.get(name) ?? (path?.startsWith("data") ? this.controls.get("") : undefined);
    if (!at) return false;
    at.fail(text);
    at.input.focus();
    return true;
  }
}
