// The environment for programs that a test starts and that choose their number of threads themselves.

import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { packageRoot } from "../../src/paths.js";

/** One core for the program and all that it starts, see one-core.mjs. */
export const oneCore = { NODE_OPTIONS: `--import=${pathToFileURL(join(packageRoot, "test/support/one-core.mjs")).href}` };
