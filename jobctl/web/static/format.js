/** How figures, times and text from outside are written for a person. Pure. */

const UNSAFE =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e0fff}]|\p{Cs}/gu;
const SHORT = new Map([
  ["\n", "\\n"],
  ["\t", "\\t"],
  ["\r", "\\r"],
]);

/** @param {string} found */
function escaped(found) {
  const code = found.codePointAt(0) ?? 0;
  if (code < 0x100) return SHORT.get(found) ?? `\\x${code.toString(16).padStart(2, "0")}`;
  return code < 0x10000 ? `\\u${code.toString(16).padStart(4, "0")}` : `\\u{${code.toString(16)}}`;
}

/**
 * Text from outside, its control, escape, bidi and invisible characters made visible.
 * @param {unknown} text
 */
export function visible(text) {
  return String(text).replace(UNSAFE, escaped);
}

/**
 * The same for text of several lines: line ends and tabs stay.
 * @param {unknown} text
 */
export function visibleLines(text) {
  return String(text)
    .replace(/\r\n/g, "\n")
    .replace(UNSAFE, (found) => (found === "\n" || found === "\t" ? found : escaped(found)));
}

/**
 * JSON for a person.
 * @param {unknown} value
 */
export function json(value) {
  return visibleLines(JSON.stringify(value, null, 2) ?? "null");
}

/**
 * Seconds as on the command line: `0.4s`, `12s`, `3m05s`, `2h10m`, `4d03h`.
 * @param {number} seconds
 */
export function duration(seconds) {
  const whole = Math.floor(seconds);
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  if (seconds < 10) return `${(Math.floor(Math.max(0, seconds) * 10) / 10).toFixed(1)}s`;
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m${two(whole % 60)}s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)}h${two(Math.floor((whole % 3600) / 60))}m`;
  return `${Math.floor(whole / 86400)}d${two(Math.floor((whole % 86400) / 3600))}h`;
}

/**
 * How long ago, coarse enough to be still: `now`, `42s`, `3m`, `2h`, `4d`.
 * @param {number} seconds
 */
export function age(seconds) {
  if (seconds < 1) return "now";
  if (seconds < 60) return `${Math.floor(seconds)}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86400)}d`;
}

/**
 * A span in words: `12 h 25 min`, `40 s`.
 * @param {number} seconds
 */
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return s < 600 && s % 60 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.floor(s / 60)} min`;
  if (s < 86400)
    return `${Math.floor(s / 3600)} h` + (Math.floor((s % 3600) / 60) ? ` ${Math.floor((s % 3600) / 60)} min` : "");
  const hours = Math.floor((s % 86400) / 3600);
  return `${Math.floor(s / 86400)} d` + (hours ? ` ${hours} h` : "");
}

/**
 * @param {string} time RFC 3339
 * @param {number} now ms
 */
export function relative(time, now) {
  const seconds = (Date.parse(time) - now) / 1000;
  if (Math.abs(seconds) < 1) return "now";
  return seconds > 0 ? `in ${span(seconds)}` : `${span(-seconds)} ago`;
}

const clockTime = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});
const dayTime = new Intl.DateTimeFormat(undefined, {
  weekday: "short",
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
  hourCycle: "h23",
});
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long", hourCycle: "h23" });

/** @param {string} time */
export const clock = (time) => clockTime.format(new Date(time));
/** @param {string} time */
export const day = (time) => dayTime.format(new Date(time));
/** The whole of it, with the reader's zone, for a tooltip. @param {string} time */
export const exact = (time) => full.format(new Date(time));

const grouped = new Intl.NumberFormat("en");
const compacted = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
/** @param {number} n */
export const count = (n) => grouped.format(n);
/** A count where room is short: all digits up to 99,999. @param {number} n */
export const short = (n) => (n < 100_000 ? grouped.format(n) : compacted.format(n));
/** @param {number} n @param {string} one @param {string} [many] */
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/**
 * A rate with as many digits as it deserves.
 * @param {number} n
 */
export function rate(n) {
  return n === 0 ? "0" : n < 10 ? n.toFixed(1) : count(Math.round(n));
}

/** The end of an id, which is what differs. @param {string} id */
export const tail = (id) => `…${id.slice(-8)}`;

/** The server's clock, as far as its own messages tell it: ages and times left are right on a machine whose clock is not. */
let skew = 0;

/** @param {string} timestamp of a message that has just come */
export function sync(timestamp) {
  const found = Date.parse(timestamp) - Date.now();
  skew = Math.abs(found) < 500 ? 0 : found;
}

/** ms since the epoch, by the server's clock */
export const now = () => Date.now() + skew;
