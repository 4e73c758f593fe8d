// Plans the loaded model anew with other wishes, in the browser, by the same code that planned
// it for real; and says which command line would bring that plan about.

import type { CacheType, Packing } from "../../../src/memory/packing.js";
import type { PlanDevice, PlanSuggestion, SplitMode } from "../../../src/memory/plan.js";
import type { PlanRequestData } from "../../../src/memory/plan-request.js";
import { exactSize } from "../../../src/memory/suggestion-text.js";
import {
  cpuExactPacking,
  cpuPacking,
  cudaPacking,
  formatBytes,
  type Plan,
  type PlanRefusal,
  planModel,
} from "../../../src/plan.js";

const PACKINGS: Readonly<Record<Packing["name"], Packing>> = { cpu: cpuPacking, "cpu-exact": cpuExactPacking, cuda: cudaPacking };

/** What a person can turn; sizes in bytes. */
export interface Wishes {
  readonly context: number;
  readonly cacheType: CacheType;
  /** `null`: as many tokens as the context. */
  readonly cacheTokens: number | null;
  readonly maxSequences: number;
  /** `null`: the largest that fits. */
  readonly prefillChunk: number | null;
  readonly splitMode: SplitMode;
  readonly caps: readonly number[] | "auto";
}

/** The wishes that the loaded plan has come from, with everything that was automatic as it came out. */
export function wishesOf(planning: PlanRequestData, plan: Plan): Wishes {
  const { context, cacheType, maxSequences } = plan.run;
  const cacheTokens = planning.cacheTokens ?? null;
  // On GPUs it gives way to the other wishes where nobody has set it.
  const prefillChunk = planning.prefillChunk ?? (planning.packing === "cuda" ? null : plan.run.prefillChunk);
  return { context, cacheType, cacheTokens, maxSequences, prefillChunk, splitMode: plan.splitMode, caps: planning.caps };
}

/** @returns the plan, the refusal, or in words why the wishes do not go together */
export function replan(planning: PlanRequestData, { cacheTokens, prefillChunk, ...wishes }: Wishes): Plan | PlanRefusal | string {
  const { cacheTokens: _pool, prefillChunk: _chunk, packing, ...rest } = planning;
  try {
    return planModel({
      ...rest,
      packing: PACKINGS[packing],
      ...wishes,
      ...(cacheTokens === null ? {} : { cacheTokens }),
      ...(prefillChunk === null ? {} : { prefillChunk }),
    });
  } catch (error) {
    return (error as Error).message;
  }
}

export function cacheTypesOf(planning: PlanRequestData): readonly CacheType[] {
  return PACKINGS[planning.packing].cacheTypes;
}

/** Bytes that nobody else has taken. */
export function freeOn(device: PlanDevice): number {
  return Math.max(0, device.total - device.usedByOthers);
}

/** What the CPU's cap is where nobody says: 80 % of what is free. */
function automaticCap(device: PlanDevice): number {
  return Math.floor(freeOn(device) * 0.8);
}

/** The caps as figures: what `auto` came to where they are automatic. */
export function capsOf(wishes: Wishes, planning: PlanRequestData, loaded: Plan): readonly number[] {
  if (wishes.caps !== "auto") return planning.devices.map((_, index) => (wishes.caps as readonly number[])[index] ?? 0);
  return loaded.devices.map(({ cap }) => cap);
}

/** What the suggestion of a refusal would change. */
export function accept(wishes: Wishes, { change, value }: PlanSuggestion): Wishes {
  if (change === "ctx") return { ...wishes, context: value as number, cacheTokens: null };
  if (change === "cache") return { ...wishes, cacheType: value as CacheType };
  return { ...wishes, caps: value as readonly number[] };
}

/** `a context of 2,048 tokens`: a suggestion in words. */
export function suggestionText({ change, value }: PlanSuggestion): string {
  if (change === "ctx") return `a context of ${(value as number).toLocaleString("en")} tokens`;
  if (change === "cache") return `a ${String(value)} cache`;
  return `a split of ${(value as readonly number[]).map(formatBytes).join(", ")}`;
}

/** @param start what comes before the plan's own options: `exllama serve --model …` */
export function commandLine(start: string, { packing, devices }: PlanRequestData, wishes: Wishes): string {
  const { context, cacheType, cacheTokens, maxSequences, prefillChunk, splitMode, caps } = wishes;
  const automatic = caps === "auto" || (packing !== "cuda" && caps[0] === automaticCap(devices[0]!));
  const sizes = automatic ? null : (caps as readonly number[]).map(exactSize).join(",");
  const options = [
    `--ctx ${context}`,
    ...(packing === "cpu-exact" ? ["--cpu-exact"] : [`--cache ${cacheType}`]),
    ...(cacheTokens === null || cacheTokens === context ? [] : [`--cache-tokens ${cacheTokens}`]),
    `--max-sequences ${maxSequences}`,
    ...(prefillChunk === null ? [] : [`--prefill-chunk ${prefillChunk}`]),
    ...(sizes === null ? [] : [packing === "cuda" ? `--gpu-split ${sizes}` : `--cpu-memory ${sizes}`]),
    ...(packing === "cuda" ? [`--split-mode ${splitMode}`] : []),
  ];
  return `${start} ${options.join(" ")}`;
}
