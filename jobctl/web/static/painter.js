/** Gathers what has changed and paints it once a frame; nothing while the page is hidden. */
export class Painter {
  constructor() {
    /** @type {Map<string, Set<{paint: () => void, until?: AbortSignal}>>} */
    this.listeners = new Map();
    /** @type {Set<string>} */
    this.dirty = new Set();
    this.frame = 0;
    document.addEventListener("visibilitychange", () => !document.hidden && this.#ask());
  }

  /**
   * @param {string[]} kinds
   * @param {() => void} paint
   * @param {AbortSignal} [until]
   */
  on(kinds, paint, until) {
    const entry = { paint, until };
    for (const kind of kinds) {
      if (!this.listeners.has(kind)) this.listeners.set(kind, new Set());
      this.listeners.get(kind)?.add(entry);
    }
    until?.addEventListener("abort", () => {
      for (const kind of kinds) this.listeners.get(kind)?.delete(entry);
    });
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
    for (const { paint, until } of due) {
      try {
        if (!until?.aborted) paint();
      } catch (error) {
        reportError(error);
      }
    }
  }
}
