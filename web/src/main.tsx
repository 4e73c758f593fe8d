import { render } from "preact";
import "./style/tokens.css";
import "./style/base.css";
import "./style/controls.css";
import "./style/layout.css";
import "./style/chat.css";
import "./style/settings.css";
import "./style/memory.css";
import { App } from "./app.js";
import { loadPage } from "./page-data.js";
import { refresh, watchSessions } from "./session/sessions.js";

watchSessions();
void loadPage();
void refresh().catch(() => {}); // the page's own data reports a server that cannot be reached
render(<App />, document.getElementById("page")!);
