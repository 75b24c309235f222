/** Choices that this browser keeps, for all tabs; where it keeps nothing, they hold for this page. One is the theme. */

/** @type {Map<string, string>} */
const here = new Map();

/** @param {string} name @param {string} otherwise */
export function kept(name, otherwise) {
  try {
    return localStorage.getItem(`jobctl ${name}`) ?? otherwise;
  } catch {
    return here.get(name) ?? otherwise;
  }
}

/** @param {string} name @param {string} value */
export function keep(name, value) {
  here.set(name, value);
  try {
    localStorage.setItem(`jobctl ${name}`, value);
  } catch {
    // for this page only, then
  }
}

/** Light, dark, or as the system has it. */
const THEMES = ["system", "light", "dark"];

export function theme() {
  const chosen = kept("theme", "system");
  return THEMES.includes(chosen) ? chosen : "system";
}

export function applyTheme() {
  const chosen = theme();
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
}

export function nextTheme() {
  const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
  keep("theme", next);
  applyTheme();
  return next;
}
