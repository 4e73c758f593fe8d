// Records as a run makes them, for tests.

import { MiB } from "../../../src/memory/size.js";
import type { CaseRecord } from "./record.js";

type MadeUpCard = { readonly planned: number; readonly peak: number; readonly cap: number };

/** Answers; without `sampled` as records were before there was a second probe. */
export interface Probes {
  readonly probe?: readonly number[];
  readonly sampled?: readonly number[];
}

/** A case that ran; sizes in bytes. */
export function ran(
  split: string,
  cards: readonly MadeUpCard[],
  { probe = [1, 2, 3], sampled, ctx = 2048 }: Probes & { readonly ctx?: number | "auto" } = {},
): CaseRecord {
  return {
    model: "synthetic:llama-13b",
    split,
    splitMode: null,
    ctx,
    peers: true,
    outcome: {
      kind: "ran",
      context: ctx === "auto" ? 2304 : ctx,
      largestContext: 3328,
      cards: cards.map((card, i) => ({ id: `cuda:${i}`, layers: [10], arena: card.planned - 500 * MiB, ...card })),
      samples: 100,
      loadMs: 1500,
      firstTokenMs: 250,
      tokenMs: 5,
      probe,
      ...(sampled && { sampled }),
    },
  };
}

export const refused: CaseRecord = {
  ...ran("2,2,2,2", []),
  outcome: {
    kind: "refused",
    code: "PLAN_DOES_NOT_FIT",
    message:
      "a context of 2048 tokens with an f16 cache does not fit: at best cuda:0 needs 2.72 GiB of a cap of 2.00 GiB, 738.4 MiB (774242304 bytes) short",
    hint: "what would fit: --gpu-split 2591MiB,2591MiB,2787MiB,2711MiB",
  },
};
