// All cases on this machine's cards, one after the other.

import { execFileSync } from "node:child_process";
import { listCards } from "../../../src/backend/cuda/cards/cards.js";
import { openDriver } from "../../../src/backend/cuda/cards/open-driver.js";
import { CardSampler } from "../card-sampler.js";
import { largeCases, type SplitCase, splitCases } from "./cases.js";
import type { CaseRecord, RunRecord } from "./record.js";
import { runCase } from "./run-case.js";

export interface RunOptions {
  /** Four entries of `--devices`; by default the first four cards, or fewer that are listed more than once. */
  readonly devices: string | undefined;
  readonly only: string | undefined;
}

/** Yields what there is after each case: a run that is cut short keeps what it has. */
export async function* runAll({ devices: asked, only }: RunOptions): AsyncGenerator<RunRecord> {
  const cards = listCards(openDriver()).filter(({ unusable }) => !unusable);
  if (cards.length === 0) throw new Error("there is no usable GPU");
  const devices = asked ?? fourEntries(cards.map(({ ordinal }) => ordinal));
  const cases = [...(only === "70b" ? [] : splitCases(devices)), ...(only === "13b" ? [] : largeCases(devices))];
  const { name, driver } = cards[0]!;
  const head = { card: name, cards: cards.length, driver, node: process.versions.node, commit: commit(), devices };

  const records: CaseRecord[] = [];
  using sampler = new CardSampler(cards.map(({ uuid }) => uuid));
  for (const one of cases) {
    records.push(describe(one, await runCase(one, cards, sampler)));
    yield { ...head, records };
  }
}

function fourEntries(ordinals: readonly number[]): string {
  const entries = Array.from({ length: 4 }, (_, i) => `cuda:${Math.floor((i * ordinals.length) / 4)}`);
  return (ordinals.length >= 4 ? ordinals.slice(0, 4).map((ordinal) => `cuda:${ordinal}`) : entries).join(",");
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
