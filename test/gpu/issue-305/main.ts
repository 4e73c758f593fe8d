// ExLlama's issue 305 on real cards, in one call of some minutes: `bench/issue-305.sh`. Every split
// at every context is planned and refused, or loaded, filled to its end and watched. Fails when a
// sample lies above a cap, when a card shows more than 8 MiB more or less than planned, or when two
// splits answer differently.
//
//   node dist/gpu/issue-305.js [--json=FILE] [--svg=FILE] [--devices=cuda:0,…] [--only=13b|70b]
//
// Or without a GPU, from the record of an earlier run, which is judged and drawn again:
//
//   node dist/gpu/issue-305.js --from=FILE [--svg=FILE]

import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { MiB } from "../../../src/memory/size.js";
import { barsSvg } from "./bars.js";
import { differingAnswers, type RunRecord, violations } from "./record.js";
import { recordTable, totals } from "./table.js";

/** A card may show so much more or less than planned: the driver rounds, the baseline may be the table's. */
const MOST_DIFFERENCE = 8 * MiB;

const text = { type: "string" } as const;
const { values: options } = parseArgs({ options: { json: text, svg: text, devices: text, only: text, from: text } });
if (options.from && (options.devices || options.only || options.json))
  throw new Error("--from runs nothing: --devices, --only and --json say nothing there");
if (options.only && !["13b", "70b"].includes(options.only)) throw new Error(`--only=${options.only}: expected 13b or 70b`);

let run: RunRecord | undefined;
if (options.from) {
  run = JSON.parse(readFileSync(options.from, "utf8")) as RunRecord;
} else {
  // Only a run needs what looks for a GPU.
  const { runAll } = await import("./run-all.js");
  for await (run of runAll({ devices: options.devices, only: options.only })) {
    console.log(recordTable(run.records.slice(-1)).split("\n")[1]);
    write(run);
  }
}
if (!run?.records?.length) throw new Error("there are no cases");
if (options.from) write(run);

const { card, cards, driver, devices, records } = run;
console.log(`\n${recordTable(records)}\n\n${cards} × ${card}, driver ${driver}, devices ${devices}\n${totals(records)}`);
for (const said of wrong(run)) console.log(`WRONG: ${said}`);
process.exitCode = wrong(run).length === 0 ? 0 : 1;

function wrong({ records }: RunRecord): string[] {
  return [
    ...records.flatMap((record) =>
      violations(record, MOST_DIFFERENCE).map((said) => `${record.split} at ${record.ctx}: ${said}`),
    ),
    ...differingAnswers(records),
  ];
}

/** After each case: a run that is cut short keeps what it has. */
function write(run: RunRecord): void {
  const { records, ...head } = run;
  if (options.json) writeFileSync(options.json, `${JSON.stringify({ ...head, wrong: wrong(run), records }, null, 1)}\n`);
  if (options.svg) writeFileSync(options.svg, barsSvg(run));
}
