/** A question before something that cannot be taken back. */
import { h } from "./dom.js";

/**
 * @param {string} title
 * @param {string} text
 * @param {string|null} yes what the button says; null: there is nothing to decide
 * @returns {Promise<boolean>}
 */
export function ask(title, text, yes) {
  return new Promise((answer) => {
    const dialog = h(
      "dialog.ask",
      { "aria-labelledby": "ask-title", "aria-describedby": "ask-text" },
      h(
        "form",
        { method: "dialog" },
        h("h2", { id: "ask-title" }, title),
        h("p", { id: "ask-text" }, text),
        h(
          "div.buttons",
          {},
          h("button", { type: "submit", value: "no" }, yes === null ? "Close" : "Leave it"),
          yes === null ? null : h("button.danger", { type: "submit", value: "yes" }, yes),
        ),
      ),
    );
    dialog.addEventListener("submit", (/** @type {SubmitEvent} */ event) => {
      event.preventDefault(); // form-action 'none' of the policy also forbids this kind of submission
      dialog.close(/** @type {HTMLButtonElement} */ (event.submitter)?.value ?? "no");
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      answer(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
