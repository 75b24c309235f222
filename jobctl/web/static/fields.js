/**
 * From the JSON Schema of a handler's field to a control of a form, and from what was typed to a value. Pure.
 *
 * @typedef {object} Field
 * @property {string} name
 * @property {boolean} required
 * @property {any} [default]
 * @property {any} [schema]
 *
 * @typedef {object} Control
 * @property {"text"|"number"|"checkbox"|"choice"|"json"} kind
 * @property {string} hint            what goes in, for a person
 * @property {any[]} [choices]
 * @property {boolean} [whole]        whole numbers only
 * @property {number} [min]
 * @property {number} [max]
 * @property {number} [maxLength]
 * @property {string} [pattern]
 */
import { json } from "./format.js";

/**
 * @param {any} schema
 * @param {any} root
 */
function resolved(schema, root) {
  let found = schema;
  for (let depth = 0; found?.$ref && depth < 10; depth++) {
    const name = String(found.$ref).split("/").at(-1) ?? "";
    found = root?.$defs?.[name] ?? {};
  }
  return found ?? {};
}

/**
 * How a field is asked for.
 * @param {Field} field
 * @returns {Control}
 */
export function control(field) {
  const root = field.schema;
  if (!root) return { kind: "json", hint: "any JSON value, or plain text" };
  let schema = resolved(root, root);
  const options = (schema.anyOf ?? schema.oneOf ?? [])
    .map((/** @type {any} */ each) => resolved(each, root))
    .filter((/** @type {any} */ each) => each.type !== "null");
  if (options.length === 1) schema = options[0];
  else if (options.length > 1)
    return {
      kind: "json",
      hint: `JSON: ${options.map((/** @type {any} */ each) => each.type ?? "object").join(" or ")}`,
    };
  if (schema.enum)
    return { kind: "choice", hint: "", choices: schema.enum.filter((/** @type {any} */ each) => each !== null) };
  if ("const" in schema) return { kind: "choice", hint: "", choices: [schema.const] };
  const type = Array.isArray(schema.type)
    ? schema.type.find((/** @type {string} */ each) => each !== "null")
    : schema.type;
  if (type === "boolean") return { kind: "checkbox", hint: "" };
  if (type === "integer" || type === "number") {
    const min =
      schema.minimum ??
      (type === "integer" && schema.exclusiveMinimum !== undefined ? schema.exclusiveMinimum + 1 : undefined);
    const max =
      schema.maximum ??
      (type === "integer" && schema.exclusiveMaximum !== undefined ? schema.exclusiveMaximum - 1 : undefined);
    return { kind: "number", hint: bounds(type, min, max), whole: type === "integer", min, max };
  }
  if (type === "string") {
    const forms = {
      date: "a date: 2026-01-31",
      "date-time": "a time: 2026-01-31T12:00:00Z",
      time: "a time of day: 12:00:00",
      uuid: "a UUID",
      byte: "base64",
      duration: "ISO 8601: PT1H30M",
    };
    const hint = forms[/** @type {keyof typeof forms} */ (schema.format ?? schema.contentEncoding)] ?? "text";
    return { kind: "text", hint, maxLength: schema.maxLength, pattern: schema.pattern };
  }
  if (type === "array") {
    const item = resolved(schema.items, root);
    return { kind: "json", hint: `JSON array${item.type ? ` of ${item.type}s` : ""}` };
  }
  return {
    kind: "json",
    hint: type === "object" || schema.properties ? "JSON object" : "any JSON value, or plain text",
  };
}

/** @param {string} type @param {number|undefined} min @param {number|undefined} max */
function bounds(type, min, max) {
  const what = type === "integer" ? "whole number" : "number";
  if (min !== undefined && max !== undefined) return `${what}, ${min} to ${max}`;
  if (min !== undefined) return `${what}, at least ${min}`;
  return max !== undefined ? `${what}, at most ${max}` : what;
}

export class BadField extends Error {
  /** @param {string} field @param {string} message */
  constructor(field, message) {
    super(message);
    this.field = field;
  }
}

/**
 * The value that was typed; undefined: leave the field out.
 * @param {Field} field
 * @param {string|boolean|undefined} typed
 */
export function parse(field, typed) {
  const how = control(field);
  if (how.kind === "checkbox") return typed === undefined ? undefined : Boolean(typed);
  const text = String(typed ?? "");
  if (text === "") {
    if (!field.required) return undefined;
    throw new BadField(field.name, `${field.name} is needed`);
  }
  if (how.kind === "choice") return how.choices?.[Number(text)];
  if (how.kind === "text") return text;
  if (how.kind === "number") {
    const number = Number(text);
    if (!Number.isFinite(number) || (how.whole && !Number.isInteger(number)))
      throw new BadField(field.name, `${field.name}: expected a ${how.hint}`);
    return number;
  }
  try {
    return JSON.parse(text);
  } catch {
    if (field.schema && !how.hint.includes("plain text"))
      throw new BadField(field.name, `${field.name}: this is not JSON`);
    return text;
  }
}

/**
 * A value as it stands in the control of its field.
 * @param {Field} field
 * @param {any} value
 * @returns {string|boolean}
 */
export function shown(field, value) {
  const how = control(field);
  if (how.kind === "checkbox") return Boolean(value);
  if (value === undefined || value === null) return "";
  if (how.kind === "choice")
    return String(Math.max(0, how.choices?.findIndex((each) => JSON.stringify(each) === JSON.stringify(value)) ?? 0));
  if (how.kind === "text" && typeof value === "string") return value;
  if (how.kind === "number") return String(value);
  return json(value);
}
