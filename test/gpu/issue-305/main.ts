// ExLlama's issue 305 on real cards, in one call of some minutes: `bench/issue-305.sh`. Every split
// at every context is planned and refused, or loaded, filled to its end and watched. Fails when a
// sample lies above a cap, when a card shows more than 8 MiB more or less than planned, or when two
// splits answer differently.
//
//   node dist/gpu/issue-305.js [--json=FILE] [--svg=FILE] [--devices=cuda:0,…] [--only=13b|70b]

import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { listCards } from "../../../src/backend/cuda/cards/cards.js";
import { openDriver } from "../../../src/backend/cuda/cards/open-driver.js";
import { MiB } from "../../../src/memory/size.js";
import { CardSampler } from "../card-sampler.js";
import { barsSvg } from "./bars.js";
import { largeCases, type SplitCase, splitCases } from "./cases.js";
import { type CaseRecord, differingAnswers, violations } from "./record.js";
import { runCase } from "./run-case.js";
import { recordTable, totals } from "./table.js";

/** A card may show so much more or less than planned: the driver rounds, the baseline may be the table's. */
const MOST_DIFFERENCE = 8 * MiB;

const option = (name: string) => process.argv.find((argument) => argument.startsWith(`--${name}=`))?.slice(name.length + 3);

const cards = listCards(openDriver()).filter(({ unusable }) => !unusable);
if (cards.length === 0) throw new Error("there is no usable GPU");
const devices = option("devices") ?? fourEntries();
const only = option("only");
const cases = [...(only === "70b" ? [] : splitCases(devices)), ...(only === "13b" ? [] : largeCases(devices))];

const { name, driver } = cards[0]!;
const head = { card: name, cards: cards.length, driver, node: process.versions.node, commit: commit(), devices };
const caption = [
  "13B, 4 bits; MiB per card: planned (filled), shown (line), allowed (dashed)",
  `ExLlama: four H200. exllama-ts: ${cards.length} × ${name}, devices ${devices}`,
];

const records: CaseRecord[] = [];
using sampler = new CardSampler(cards.map(({ uuid }) => uuid));
for (const one of cases) {
  const record = describe(one, await runCase(one, cards, sampler));
  records.push(record);
  console.log(recordTable([record]).split("\n")[1]);
  write(); // after each: a run that is cut short keeps what it has
}

console.log(`\n${recordTable(records)}\n\n${head.cards} × ${name}, driver ${driver}, devices ${devices}\n${totals(records)}`);
for (const said of wrong()) console.log(`WRONG: ${said}`);
process.exitCode = wrong().length === 0 ? 0 : 1;

function wrong(): string[] {
  return [
    ...records.flatMap((record) =>
      violations(record, MOST_DIFFERENCE).map((said) => `${record.split} at ${record.ctx}: ${said}`),
    ),
    ...differingAnswers(records),
  ];
}

function write(): void {
  const json = option("json");
  if (json) writeFileSync(json, `${JSON.stringify({ ...head, wrong: wrong(), records }, null, 1)}\n`);
  const svg = option("svg");
  if (svg) writeFileSync(svg, barsSvg(records, caption));
}

function fourEntries(): string {
  const entries = Array.from({ length: 4 }, (_, i) => `cuda:${Math.floor((i * cards.length) / 4)}`);
  return (cards.length >= 4 ? cards.slice(0, 4).map(({ ordinal }) => `cuda:${ordinal}`) : entries).join(",");
}

function describe({ model, options }: SplitCase, outcome: CaseRecord["outcome"]): CaseRecord {
  const { gpuSplit, splitMode, ctx, peers } = options;
  return {
    model,
    split: String(gpuSplit ?? "auto"),
    splitMode: splitMode ?? null,
    ctx: ctx ?? "auto",
    peers: peers ?? true,
    outcome,
  };
}

/** What was built: `EXLLAMA_COMMIT` where it was built elsewhere, and the checkout here is another. */
function commit(): string | null {
  if (process.env.EXLLAMA_COMMIT) return process.env.EXLLAMA_COMMIT;
  try {
    return execFileSync("git", ["rev-parse", "--short", "HEAD"], { stdio: ["ignore", "pipe", "ignore"] })
      .toString()
      .trim();
  } catch {
    return null;
  }
}
