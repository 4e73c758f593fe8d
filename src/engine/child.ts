// The engine's process: the program that loadModel() forks.

import { serveParent } from "./serve-parent.js";

serveParent();
