// What the picture says, before it is drawn: for each split that was reported, what ExLlama took,
// and what we took or said instead.

import { MiB } from "../../../src/memory/size.js";
import { EXLLAMA, EXLLAMA_CONTEXT } from "./cases.js";
import type { CaseRecord } from "./record.js";
import type { Ran, Refused } from "./run-case.js";

/** One GPU; sizes in MiB. */
export interface Bar {
  readonly gpu: string;
  readonly shown: number;
  readonly planned: number | null;
  readonly cap: number;
}

export interface Comparison {
  readonly split: string;
  readonly ctx: number;
  /** `null`: IndexError. */
  readonly exllama: readonly Bar[] | null;
  readonly refusal: { readonly short: string; readonly fits: string } | null;
  /** At the reported context, or with `--ctx auto` where that was refused. */
  readonly ran: { readonly context: number; readonly largestContext: number; readonly bars: readonly Bar[] } | null;
}

/** Of the reported splits those that were tried, in the order of the reports. */
export function comparisons(records: readonly CaseRecord[]): Comparison[] {
  return EXLLAMA.flatMap(({ split, ctx, used }): Comparison[] => {
    const outcome = outcomeOf(records, split, ctx);
    if (!outcome) return [];
    const caps = split.split(",").map((gib) => Number(gib) * 1024);
    const exllama = used?.map((shown, i) => ({ gpu: String(i), shown, planned: null, cap: caps[i]! })) ?? null;
    if (outcome.kind === "ran") return [{ split, ctx, exllama, refusal: null, ran: ours(outcome) }];
    const automatic = outcomeOf(records, split, "auto");
    return [{ split, ctx, exllama, refusal: inShort(outcome), ran: automatic?.kind === "ran" ? ours(automatic) : null }];
  });
}

export const isBroken = ({ shown, cap }: Bar): boolean => shown > cap;

/** ExLlama opens every GPU: one with a CUDA context and nothing else is idle. */
export const isIdle = ({ shown }: Bar): boolean => shown === EXLLAMA_CONTEXT;

export const isLeftOut = ({ shown, planned }: Bar): boolean => planned === 0 && shown === 0;

function outcomeOf(records: readonly CaseRecord[], split: string, ctx: number | "auto") {
  return records.find((one) => one.split === split && one.ctx === ctx && one.model.includes("13b"))?.outcome;
}

function ours({ context, largestContext, cards }: Ran): Comparison["ran"] {
  const bars = cards.map(({ id, planned, peak, cap }) => ({
    gpu: id.replace("cuda:", ""),
    shown: peak / MiB,
    planned: planned / MiB,
    cap: cap / MiB,
  }));
  return { context, largestContext, bars };
}

/** The refusal's own words, without those that the picture says beside them. */
function inShort({ message, hint }: Refused): Comparison["refusal"] {
  const found = /at best (\S+) needs (\S+ \S+) of a cap of .+?, (\S+ \S+) \(\d+ bytes\) short/.exec(message);
  return {
    short: found ? `${found[1]} is ${found[3]} short of ${found[2]}` : message,
    fits: hint?.replace(/^what would fit/, "would fit") ?? "",
  };
}

/** The picture in words, for those who cannot see it. */
export function describe(rows: readonly Comparison[]): string {
  const list = (bars: readonly Bar[]) =>
    `${bars.map(({ shown }) => shown.toFixed(0)).join(", ")} MiB, ${bars.filter(isBroken).length} caps broken`;
  const said = rows.map(({ split, ctx, exllama, refusal, ran }) => {
    const ours = [refusal && `refused, ${refusal.short}`, ran && `at ${ran.context} tokens ${list(ran.bars)}`];
    const theirs = exllama ? list(exllama) : "IndexError";
    return `${split} at ${ctx}: ExLlama ${theirs}; exllama-ts ${ours.filter(Boolean).join("; ")}.`;
  });
  return ["What each GPU held under --gpu-split, ExLlama beside exllama-ts.", ...said].join(" ");
}
