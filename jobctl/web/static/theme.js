/** Light, dark, or as the system has it. */
import { keep, kept } from "./kept.js";

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
