/**
 * Starts the page. Signing in and the first list are under way while the parts of the page are still being loaded; what
 * the first look does not show (the drawer, dialogs, other views) comes last.
 */
import { applyTheme } from "./choices.js";
import { Opening } from "./opening.js";

/** What comes last waits so long at most for the list, which it would only slow down. */
const PATIENCE_MS = 300;

applyTheme();
const opening = new Opening();
const answered = opening.start();
const { App } = await import("./app.js");
const app = new App(opening);
const { show } = await import("./shell.js");
show(app);
await Promise.race([answered, new Promise((done) => setTimeout(done, PATIENCE_MS))]);
await import("./later.js");
