/** Signing in: by the link (which this page has already tried), or by a token. */
import { message } from "./app.js";
import { Part, h, put } from "./dom.js";

class SignIn extends Part {
  build() {
    const token = h("textarea", {
      id: "token",
      rows: "4",
      required: true,
      autocomplete: "off",
      spellcheck: "false",
      autocapitalize: "off",
      "aria-describedby": "why",
    });
    const why = h("p.error", { id: "why", role: "alert" });
    const button = h("button.primary", { type: "submit" }, "Sign in");
    const form = h(
      "form.card",
      {
        onsubmit: async (/** @type {Event} */ event) => {
          event.preventDefault();
          button.disabled = true;
          put(why, "");
          try {
            await this.app.session.paste(token.value);
            token.value = "";
          } catch (error) {
            const text = message(error);
            put(why, text.includes("token") || text.includes("reached") ? text : `This token is not taken: ${text}`);
            token.focus();
          } finally {
            button.disabled = false;
          }
        },
      },
      h("h1", {}, h("img", { src: "/static/icon.svg", alt: "", width: "32", height: "32" }), "jobctl"),
      h("p.muted", {}, "On the server's machine, ", h("code", {}, "jobctl open"), " opens this page signed in."),
      h("label", { for: "token" }, "Or paste a token"),
      token,
      h(
        "p.muted.small",
        {},
        h("code", {}, "jobctl token"),
        " prints one for 15 minutes. It stays in this tab's memory only.",
      ),
      why,
      button,
    );
    this.append(h("main", {}, form));
    const ask = () => {
      const { out } = this.app.session;
      if (out === null) return;
      document.title = "Sign in · jobctl";
      put(why, out);
      token.focus({ preventScroll: true });
    };
    this.app.painter.on(["identity"], ask);
    ask();
  }
}

customElements.define("jc-sign-in", SignIn);
