// Speed on a card: decoding at depths, batches and prompts of models of known shapes with made-up
// weights, each row several times. What has been measured is written at once, to
// bench/results/<card>.json, and drawn beside it.
//
//   npm run bench:gpu [-- --only 7b,13b] [--rows decode,prompt,batch] [--repeat 5]
//                     [--devices cuda:0] [--out FOLDER]
//   npm run bench:gpu -- --plot FILE.json   draws a record anew, measures nothing
//   npm run bench:gpu -- --try              the small model of the package on the CPU, to try this script

import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readArguments } from "./jobs.js";
import { plotSvg } from "./plot.js";
import { fileNameOf, readRecord, rowsOf, withRows, writeWhole } from "./record.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const cli = join(root, "dist/cli/main.js");

function main() {
  const wanted = argumentsOrExit();
  if (wanted.plot !== null) return draw(wanted.plot);
  if (!existsSync(cli)) stop("dist/ is missing: run `npm run build` first");
  const card = wanted.trial ? "CPU" : cardOf(wanted.devices);
  const folder = wanted.out ?? (wanted.trial ? mkdtempSync(join(tmpdir(), "exllama-bench-")) : join(root, "bench/results"));
  mkdirSync(folder, { recursive: true });
  const path = join(folder, fileNameOf(card));
  let record = readRecord(`${path}.json`, card);
  let failures = 0;
  for (const job of wanted.jobs) {
    const rows = measure(job, wanted);
    if (rows === null) {
      failures++;
      continue;
    }
    record = withRows(record, rows);
    writeWhole(`${path}.json`, `${JSON.stringify(record, null, 1)}\n`);
    writeWhole(`${path}.svg`, plotSvg(record));
    for (const { model, cache, name, tokensPerSecond: rate } of rows)
      console.log(
        `${model}  ${cache}  ${name}: ${rate.median.toFixed(1)} tokens/s (mean ${rate.mean.toFixed(1)} ± ${rate.deviation.toFixed(1)})`,
      );
  }
  if (record.rows.length === 0) stop("nothing was measured");
  console.log(`${path}.json, ${path}.svg`);
  if (failures > 0) stop(`${failures} of ${wanted.jobs.length} loads failed`);
}

function draw(record) {
  const path = record.replace(/(\.json)?$/, ".svg");
  if (!existsSync(record)) stop(`there is no record ${record}`);
  writeWhole(path, plotSvg(readRecord(record)));
  console.log(path);
}

function argumentsOrExit() {
  try {
    return readArguments(process.argv.slice(2));
  } catch (error) {
    return stop(error.message, 2);
  }
}

/** The row of one load; `null` where it failed, of which `exllama bench` has said why. */
function measure({ model, kind, args }, { repeat, devices, trial }) {
  console.error(`${model}: ${args.join(" ")}`);
  const where = trial ? ["--backend", "cpu"] : ["--devices", devices, "--backend", "cuda", "--synthetic", model];
  const all = ["bench", ...where, ...args, "--repeat", String(repeat), "--json"];
  const { status, stdout } = spawnSync(process.execPath, [cli, ...all], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  if (status !== 0) return null;
  const run = {
    command: `exllama ${all.join(" ")}`,
    commit: commit(),
    date: today(),
    node: process.versions.node,
  };
  return rowsOf({ model, kind }, JSON.parse(stdout), run);
}

/** Name of the first of these devices. */
function cardOf(devices) {
  const listed = JSON.parse(execFileSync(process.execPath, [cli, "devices", "--json"], { encoding: "utf8" }));
  const first = devices.split(",")[0];
  const card = listed.devices.find(({ id }) => id === first);
  if (!card || card.uuid === null || card.unusable) stop(listed.problem?.message ?? card?.unusable ?? `there is no GPU ${first}`);
  return card.name;
}

/** What was built: `EXLLAMA_COMMIT` where it was built elsewhere, and the checkout here is another. */
function commit() {
  if (process.env.EXLLAMA_COMMIT) return process.env.EXLLAMA_COMMIT;
  return existsSync(join(root, ".git"))
    ? execFileSync("git", ["rev-parse", "--short=7", "HEAD"], { cwd: root, encoding: "utf8" }).trim()
    : null;
}

function today() {
  return new Date().toISOString().slice(0, 10);
}

function stop(message, code = 1) {
  console.error(message);
  process.exit(code);
}

main();
