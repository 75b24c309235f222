/** Short words to the person, one after the other, told to screen readers once. */
import { Part, h } from "./dom.js";
import { visible } from "./format.js";

const SHOWN_MS = 5000;
const MOST = 4;

class Toasts extends Part {
  build() {
    this.setAttribute("role", "log");
    this.setAttribute("aria-live", "polite");
    this.setAttribute("aria-label", "Messages");
    document.addEventListener("toast", (event) => this.#show(/** @type {CustomEvent} */ (event).detail));
  }

  /** @param {{text: string, kind: string, action?: {label: string, run: () => void}}} told */
  #show({ text, kind, action }) {
    const leave = () => toast.remove();
    const toast = h(
      "div.toast",
      { "data-kind": kind },
      h("span", {}, visible(text).slice(0, 500)),
      action ? h("button.quiet", { type: "button", onclick: () => (leave(), action.run()) }, action.label) : null,
      h("button.quiet", { type: "button", "aria-label": "Dismiss", onclick: leave }, "✕"),
    );
    this.append(toast);
    while (this.children.length > MOST) this.firstElementChild?.remove();
    setTimeout(leave, kind === "bad" ? 2 * SHOWN_MS : SHOWN_MS);
  }
}

customElements.define("jc-toasts", Toasts);
