/** The plainer cron expressions in words; the others speak for themselves. Pure. */
const DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const SHORT = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/** @type {Record<string, string>} */
const NAMED = {
  "@hourly": "every hour",
  "@daily": "every day at 00:00",
  "@midnight": "every day at 00:00",
  "@weekly": "Sundays at 00:00",
  "@monthly": "on day 1 of the month at 00:00",
  "@yearly": "on 1 January at 00:00",
  "@annually": "on 1 January at 00:00",
};
const NUMBER = /^\d{1,2}$/;

/**
 * @param {string} cron
 * @returns {string|null} null: too special for a few words
 */
export function inWords(cron) {
  if (NAMED[cron]) return NAMED[cron];
  const fields = cron.trim().split(/\s+/);
  if (fields.length !== 5) return null;
  const [minute, hour, date, month, weekday] = fields;
  if (month !== "*" || (date !== "*" && weekday !== "*")) return null;
  const always = date === "*" && weekday === "*";
  if (hour === "*" && always) {
    if (minute === "*" || minute === "*/1") return "every minute";
    const step = /^\*\/(\d{1,2})$/.exec(minute);
    if (step) return `every ${step[1]} minutes`;
    return NUMBER.test(minute) ? (minute === "0" ? "every hour" : `every hour at minute ${Number(minute)}`) : null;
  }
  if (!NUMBER.test(minute)) return null;
  const step = /^\*\/(\d{1,2})$/.exec(hour);
  if (step && always) return `every ${step[1]} hours at minute ${Number(minute)}`;
  if (!NUMBER.test(hour)) return null;
  const at = `at ${hour.padStart(2, "0")}:${minute.padStart(2, "0")}`;
  if (always) return `every day ${at}`;
  if (weekday === "*") return NUMBER.test(date) ? `on day ${Number(date)} of the month ${at}` : null;
  const days = weekday.split(",").map(dayRange);
  return days.every((each) => each !== null) ? `${days.join(", ")} ${at}` : null;
}

/** @param {string} text @returns {string|null} */
function dayRange(text) {
  const ends = text.split("-").map((each) => (/^[0-7]$/.test(each) ? Number(each) : SHORT.indexOf(each.toLowerCase())));
  if (ends.length > 2 || ends.some((each) => each < 0)) return null;
  return ends.length === 1 ? `${DAYS[ends[0]]}s` : `${DAYS[ends[0]]} to ${DAYS[ends[1]]}`;
}
