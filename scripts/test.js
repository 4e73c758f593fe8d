// `npm test`: build, types, lint, then every test. Ends with one plain line that counts them
// all: "N passed, N failed". A failing step fails the run but lets the others speak. What does not
// need each other's results runs side by side, and is heard when it is done.

import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const scratch = mkdtempSync(join(tmpdir(), "exllama-test-"));
const report = join(scratch, "vitest.json");
const OPTIONS = { cwd: root, shell: process.platform === "win32" };

let passed = 0;
let failed = 0;

await Promise.all([
  // The page's tests need a browser; without one they would fail one by one.
  step("browser", ["node", "test/browser/install-chromium.js"]),
  step("build", ["node", "scripts/build.js"]),
  step("types", ["npm", "run", "--silent", "types"]),
  step("lint", ["npm", "run", "--silent", "lint"]),
]);
const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
const unit = run(["node", "node_modules/vitest/vitest.mjs", "run", ...reporters]);
const counted = readReport();
passed += counted.passed;
failed += counted.failed;
if (unit !== 0 && counted.failed === 0) failed += 1; // a crash outside any test
rmSync(scratch, { recursive: true, force: true });

console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 && passed > 0 ? 0 : 1);

/** Runs a step that counts as one test, and resolves when it has ended, whatever its end. */
function step(name, [command, ...args]) {
  const child = spawn(command, args, { ...OPTIONS, stdio: ["ignore", "pipe", "pipe"] });
  const said = [];
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => said.push(data));
  return new Promise((resolve) => {
    child.on("error", (error) => said.push(Buffer.from(`${error}\n`)));
    child.on("close", (status) => {
      if (status === 0) passed += 1;
      else failed += 1;
      process.stdout.write(Buffer.concat(said));
      console.log(`${status === 0 ? "ok" : "FAILED"}: ${name}`);
      resolve();
    });
  });
}

function run([command, ...args]) {
  return spawnSync(command, args, { ...OPTIONS, stdio: "inherit" }).status ?? 1;
}

/** Tests counted from vitest's own JSON report; a suite that could not be loaded counts as one failure. */
function readReport() {
  try {
    const json = JSON.parse(readFileSync(report, "utf8"));
    const broken = json.testResults.filter((file) => file.status === "failed" && file.assertionResults.length === 0).length;
    return { passed: json.numPassedTests, failed: json.numFailedTests + broken };
  } catch {
    return { passed: 0, failed: 1 };
  }
}
