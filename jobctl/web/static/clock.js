/** The server's clock, as far as its own messages tell it: ages and times left are right on a machine whose clock is not. */
let skew = 0;

/** @param {string} timestamp of a message that has just come */
export function sync(timestamp) {
  const found = Date.parse(timestamp) - Date.now();
  skew = Math.abs(found) < 500 ? 0 : found;
}

/** ms since the epoch, by the server's clock */
export const now = () => Date.now() + skew;
