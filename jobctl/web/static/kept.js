/** Choices that this browser keeps, for all tabs; where it keeps nothing, they hold for this page. */

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
