/** What this page has cost in requests, and what polling would have. Pure. */

/** What a page that shows jobs, counts and queues asks for each time. */
export const ENDPOINTS = 3;
export const LAZY_S = 30;

export class Bill {
  /** @param {number} opened ms */
  constructor(opened) {
    this.opened = opened;
    this.requests = 0;
    this.connections = 0;
    this.updates = 0;
  }

  /**
   * Requests of a page that polls every 30 s: once at the start, then once every 30 s.
   * @param {number} now ms
   */
  polled(now) {
    return ENDPOINTS * (1 + Math.floor(Math.max(0, now - this.opened) / 1000 / LAZY_S));
  }
}
