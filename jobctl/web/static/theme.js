/** Light, dark, or as the system has it. */
const KEY = "jobctl theme";
const THEMES = ["system", "light", "dark"];

function stored() {
  try {
    return localStorage.getItem(KEY) ?? "system";
  } catch {
    return "system"; // a browser that keeps nothing
  }
}

export function theme() {
  return THEMES.includes(stored()) ? stored() : "system";
}

export function applyTheme() {
  const chosen = theme();
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
}

export function nextTheme() {
  const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
  try {
    localStorage.setItem(KEY, next);
  } catch {
    // for this page only, then
  }
  document.documentElement.dataset.theme = next;
  if (next === "system") delete document.documentElement.dataset.theme;
  return next;
}
