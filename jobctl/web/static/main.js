/** Starts the page. */
import { App } from "./app.js";
import { part } from "./dom.js";
import { applyTheme } from "./theme.js";
import "./shell.js";

applyTheme();
const app = new App();
document.body.append(part("jc-shell", app));
void app.start();
