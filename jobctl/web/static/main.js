/**
 * Starts the page. Signing in and the first list are under way while the parts of the page are still being loaded; what
 * the first look does not show (the drawer, dialogs, other views) comes last.
 */
import { App } from "./app.js";
import { applyTheme } from "./theme.js";

applyTheme();
const app = new App();
void app.start();
const { show } = await import("./shell.js");
show(app);
await import("./later.js");
