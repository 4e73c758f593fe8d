// Runs after `npm ci` in a checkout: builds dist/. Where the development tools are absent
// (`npm ci --omit=dev`, or the published package, which has dist/ already) it does nothing.

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const tools = ["tsdown", "assemblyscript", "vite"].every((name) => existsSync(join(root, "node_modules", name)));

if (tools) {
  const run = spawnSync(process.execPath, ["scripts/build.js"], { cwd: root, stdio: "inherit" });
  process.exit(run.status ?? 1);
}
