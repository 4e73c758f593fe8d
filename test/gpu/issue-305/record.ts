// What one split came to: a refusal, or the plan beside what the cards showed.

import type { Ran, Refused } from "./run-case.js";

export interface CaseRecord {
  readonly model: string;
  readonly split: string;
  readonly splitMode: string | null;
  readonly ctx: number | string;
  readonly peers: boolean;
  readonly outcome: Refused | Ran;
}

/** One run of all cases, as it lies in bench/results. */
export interface RunRecord {
  /** The cards' name. */
  readonly card: string;
  readonly cards: number;
  readonly driver: string;
  readonly node: string;
  readonly commit: string | null;
  /** The entries of `--devices`. */
  readonly devices: string;
  readonly records: readonly CaseRecord[];
}

/** Most and least that cards showed beyond their plan, in bytes; 0 where nothing ran. */
export function fromPlan(records: readonly CaseRecord[]): { readonly most: number; readonly least: number } {
  const beyond = records.flatMap(({ outcome }) =>
    outcome.kind === "ran" ? outcome.cards.map(({ planned, peak }) => peak - planned) : [],
  );
  return { most: Math.max(...beyond, 0), least: Math.min(...beyond, 0) };
}

/** What must hold of a run, or what did not. */
export function violations({ outcome }: CaseRecord, mostUnused: number): string[] {
  if (outcome.kind === "refused") return [];
  return outcome.cards.flatMap(({ id, cap, planned, peak }) => {
    const said: string[] = [];
    if (peak > cap) said.push(`${id} showed ${peak} bytes, above its cap of ${cap}`);
    if (Math.abs(peak - planned) > mostUnused) said.push(`${id} showed ${peak} bytes, planned were ${planned}`);
    return said;
  });
}

/** Answers to a probe differ between splits of one model: these cases, in words. */
export function differingAnswers(records: readonly CaseRecord[]): string[] {
  const first = new Map<string, { split: string; ids: string }>();
  return records.flatMap(({ model, split, outcome }) => {
    if (outcome.kind === "refused") return [];
    return PROBES.flatMap(([name, adverb]) => {
      const ids = outcome[name]?.join(" ");
      if (ids === undefined) return [];
      const known = first.get(`${name} ${model}`);
      if (!known) first.set(`${name} ${model}`, { split, ids });
      else if (known.ids !== ids) return [`${model}: ${split} answers otherwise than ${known.split}${adverb}`];
      return [];
    });
  });
}

/** Whether answers to one of the probes can tell splits apart: one token over and over is what many a mistake would give too. */
export function tellingAnswers(records: readonly CaseRecord[]): boolean {
  return PROBES.some(([name]) => records.every(({ outcome }) => outcome.kind === "refused" || new Set(outcome[name]).size > 1));
}

const PROBES = [
  ["probe", ""],
  ["sampled", ", sampled"],
] as const;
