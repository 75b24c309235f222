/**
 * The first two questions of the page, asked while its parts are still on their way: who is there, and the list that
 * the URL asks for.
 */
import { Api, Bill } from "./api.js";
import { listPath, read, takeCode } from "./filter.js";
import { Session } from "./session.js";

export class Opening {
  constructor() {
    this.api = new Api(new Bill(Date.now()));
    this.session = new Session(this.api);
    /** @type {{path: string, answer: ReturnType<Api["get"]>}|null} */
    this.first = null;
    this.session.changed = (reason) => reason === null && this.#ask();
  }

  /** Over when both have been answered, in whatever way. */
  async start() {
    await this.session.start(takeCode());
    await this.first?.answer.catch(() => undefined); // told to whoever takes it
  }

  #ask() {
    const { subject } = /** @type {import("./session.js").Who} */ (this.session.who);
    const path = listPath(read(location.search), subject);
    this.first = { path, answer: this.api.get(path) };
  }

  /**
   * A list: the first that is asked for may be here already.
   * @param {string} path
   */
  list(path) {
    const { first } = this;
    this.first = null;
    return first?.path === path ? first.answer : this.api.get(path);
  }
}
