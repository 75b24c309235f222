/** Requests to the server, each counted; failures are `ApiError` with a message for a person. */

/** What a page that shows jobs, counts and queues asks for each time. */
export const ENDPOINTS = 3;
export const LAZY_S = 30;

/** What this page has cost in requests, and what polling would have. */
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

export class ApiError extends Error {
  /**
   * @param {number} status 0: the server could not be reached
   * @param {string} code
   * @param {string} message
   * @param {string|null} [field]
   */
  constructor(status, code, message, field = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.field = field;
  }
}

export class Api {
  /** @param {Bill} bill */
  constructor(bill) {
    this.bill = bill;
    /** @type {string|null} */
    this.token = null;
    /** Gets a new token, or says that there is none. @type {() => Promise<boolean>} */
    this.renew = async () => false;
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {{body?: unknown, open?: boolean, signal?: AbortSignal, again?: boolean, key?: string}} [more] `open`: needs no token;
   *   `key` makes it safe to send again
   * @returns {Promise<{data: any, position: import("./follower.js").Position|null}>}
   */
  async send(method, path, { body, open = false, signal, again = true, key } = {}) {
    /** @type {Record<string, string>} */
    const headers = {};
    if (!open && this.token) headers.Authorization = `Bearer ${this.token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (key) headers["Idempotency-Key"] = key;
    this.bill.requests += 1;
    let response;
    let answer;
    try {
      response = await fetch(path, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        signal,
        cache: "no-store",
        credentials: "same-origin",
      });
      answer = await response.json().catch(() => null);
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new ApiError(0, "unreachable", "the server cannot be reached");
    }
    if (response.ok && answer) return { data: answer.data, position: place(response.headers.get("X-Jobctl-Position")) };
    if (response.status === 401 && !open && again && (await this.renew()))
      return this.send(method, path, { body, open, signal, again: false, key });
    throw new ApiError(
      response.status,
      answer?.code ?? "unknown",
      answer?.detail ?? `the server answered ${response.status}`,
      answer?.field ?? null,
    );
  }

  /** @param {string} path @param {AbortSignal} [signal] */
  get(path, signal) {
    return this.send("GET", path, { signal });
  }

  /** @param {string} path @param {unknown} [body] */
  post(path, body) {
    return this.send("POST", path, { body });
  }
}

/** @param {string|null} text `EPOCH:SEQ` @returns {import("./follower.js").Position|null} */
export function place(text) {
  if (!text) return null;
  const at = text.lastIndexOf(":");
  return { epoch: text.slice(0, at), seq: Number(text.slice(at + 1)) };
}
