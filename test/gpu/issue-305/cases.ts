// What is tried: the splits that ExLlama's issue 305 is about, and what ExLlama itself did with
// them on four cards of 141 GB (MiB per card, its contexts of 529 MiB included; 13B, 4 bits).

import type { LoadOptions } from "../../../src/index.js";

export interface SplitCase {
  readonly model: string;
  readonly options: LoadOptions;
  /** Whether the context is filled to its end; else the prompt and the answer are the probe alone. */
  readonly fills: boolean;
}

const SPLITS = [
  "3,3,3,3",
  "2.8,2.8,2.8,2.8",
  "5,2,2,2",
  "20,1,20,20",
  "2,2,2,2",
  "1",
  "1.9,1.9,1.9,1.9",
  "3.25,2.75,3.5,2.9",
  "0.4,8,8,0",
  "auto",
] as const;
const CONTEXTS = [2048, "auto", 4096, 8192] as const;

/** Tokens of one prefill step: small, so that scratch is small, as the caps are. */
const CHUNK = 512;

/** @param devices four entries: four cards, or two that are listed twice */
export function splitCases(devices: string): SplitCase[] {
  return CONTEXTS.flatMap((ctx) =>
    SPLITS.map((gpuSplit) => ({
      model: "synthetic:llama-13b",
      options: {
        // One cap is one device; automatic caps spread over all four.
        devices: gpuSplit === "1" ? devices.split(",")[0]! : devices,
        ...(gpuSplit === "auto" ? { splitMode: "even" as const } : { gpuSplit }),
        ctx,
        prefillChunk: CHUNK,
      },
      fills: true,
    })),
  );
}

/** A model that wants several cards, with and without copies from card to card. */
export function largeCases(devices: string): SplitCase[] {
  return (["even", "fewest"] as const).flatMap((splitMode) =>
    [true, false].map((peers) => ({
      model: "synthetic:llama-70b",
      options: { devices, splitMode, ctx: 8192, prefillChunk: 2048, peers },
      fills: true,
    })),
  );
}

/** ExLlama v1, the same model and splits, use of the whole card in MiB; `null`: IndexError. */
export const EXLLAMA: readonly { readonly split: string; readonly ctx: number; readonly used: readonly number[] | null }[] = [
  { split: "3,3,3,3", ctx: 2048, used: [4975, 4975, 1871, 529] },
  { split: "5,2,2,2", ctx: 4096, used: [8873, 3401, 529, 529] },
  { split: "20,1,20,20", ctx: 2048, used: [9513, 529, 529, 529] },
  { split: "2,2,2,2", ctx: 2048, used: [3769, 3769, 3769, 1671] },
  { split: "1.9,1.9,1.9,1.9", ctx: 2048, used: [3567, 3567, 3567, 2273] },
  { split: "1", ctx: 2048, used: null },
];

/** Of it what a card takes that holds nothing: ExLlama's CUDA context, in MiB. */
export const EXLLAMA_CONTEXT = 529;
