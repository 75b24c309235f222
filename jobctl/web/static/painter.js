/** Gathers what has changed and paints it once a frame; nothing while the page is hidden. */
export class Painter {
  constructor() {
    /** @type {Map<string, Set<() => void>>} */
    this.listeners = new Map();
    /** @type {Set<string>} */
    this.dirty = new Set();
    this.frame = 0;
    document.addEventListener("visibilitychange", () => !document.hidden && this.#ask());
  }

  /**
   * @param {string[]} kinds
   * @param {() => void} paint
   */
  on(kinds, paint) {
    for (const kind of kinds) {
      if (!this.listeners.has(kind)) this.listeners.set(kind, new Set());
      this.listeners.get(kind)?.add(paint);
    }
  }

  /** @param {string} kind */
  mark(kind) {
    this.dirty.add(kind);
    this.#ask();
  }

  #ask() {
    if (!this.frame && this.dirty.size && !document.hidden) this.frame = requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    this.frame = 0;
    const due = new Set([...this.dirty].flatMap((kind) => [...(this.listeners.get(kind) ?? [])]));
    this.dirty.clear();
    for (const paint of due) {
      try {
        paint();
      } catch (error) {
        reportError(error);
      }
    }
  }
}
