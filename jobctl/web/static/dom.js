/** Building the page. Text goes in as text; there is no way here to make markup of it. */

/**
 * @param {string} name  a tag, with classes: `div.card.wide`
 * @param {Record<string, any>} [props] `on*` are listeners, `prop:*` properties, the rest attributes; false and null are left out
 * @param {...any} children nodes, texts, arrays of them; null and false are left out
 * @returns {any}
 */
export function h(name, props = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key.startsWith("prop:")) /** @type {any} */ (element)[key.slice(5)] = value;
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((each) => each !== null && each !== undefined && each !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";
/**
 * @param {string} tag
 * @param {Record<string, string>} props
 * @param {...Node} children
 * @returns {any}
 */
export function svg(tag, props, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(props)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Sets a text only if it is another: nothing is laid out for nothing. @param {Element} element @param {string} text */
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** @param {Element} element @param {string} name @param {string|boolean|null} value */
export function attribute(element, name, value) {
  if (value === null || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value === true ? "" : value))
    element.setAttribute(name, value === true ? "" : value);
}

/** A time that says all of it when pointed at. @param {string} className */
export const time = (className = "") => h(`time${className}`);

/**
 * A web component in the page's own tree: built once, with `app` set before, also where the element was there before
 * its class. Taken out of the page it is not put in again: what it listens to with `ended` or by `paints` ends there.
 * @abstract
 * @property {import("./app.js").App} app
 */
export class Part extends HTMLElement {
  #built = false;
  #ending = new AbortController();

  get ended() {
    return this.#ending.signal;
  }

  connectedCallback() {
    if (this.#built) return;
    this.#built = true;
    this.build();
  }

  disconnectedCallback() {
    this.#ending.abort();
  }

  /** @param {string[]} kinds @param {() => void} paint */
  paints(kinds, paint) {
    this.app.painter.on(kinds, paint, this.ended);
  }

  build() {}
}

/**
 * @template {Part} T
 * @param {string} name
 * @param {import("./app.js").App} app
 * @returns {T}
 */
export function part(name, app) {
  const element = /** @type {T} */ (document.createElement(name));
  element.app = app;
  return element;
}
