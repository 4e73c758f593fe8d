// One token through whole layers in one launch, and through what lies between two attentions in one launch, in the engine:
// random models, token by token, against the reference forward pass, and beside the same linears one by one.

import type { Card, CardSources } from "../../src/backend/cuda/cards/cards.js";
import type { KernelImage } from "../../src/backend/cuda/cards/device-context.js";
import { createCudaBackend } from "../../src/backend/cuda/index.js";
import type { CudaRuntime } from "../../src/backend/cuda/runtime.js";
import { Driver } from "../conformance/driver.js";
import { meanDifference } from "../reference/compare.js";
import { referenceLogits } from "../reference/forward.js";
import { gptqWeights, makeSynthetic, type SyntheticModel, smallLlama } from "../support/synthetic-checkpoint.js";
import type { Report } from "./report.js";

/** Root mean square in units of the logits' deviation, as for every other synthetic model. */
export const MEAN_BOUND = 0.02;
const TOKENS = 24;
/** What the first of a long text are read by: then keys of several parts are there at once. */
const LONG = 700;

const weights = { ...gptqWeights, groupSize: 128, symmetric: false };
const base = { ...smallLlama, weights, hidden: 1024, heads: 16, kvHeads: 4, headDim: 64, intermediate: 2816 };
const long = { layers: 2, hidden: 256, intermediate: 512, maxPositions: 1024 };
export const CHAINED_MODELS: readonly (readonly [name: string, model: SyntheticModel, ahead?: number])[] = [
  ["no biases", { ...base, layers: 3 }],
  ["biases everywhere", { ...base, seed: 2, attentionBias: true, mlpBias: true }],
  [
    "Qwen 2.5 0.5B's width, biases of q, k and v",
    { ...base, seed: 3, architecture: "qwen2", hidden: 896, heads: 14, kvHeads: 2, intermediate: 4864 },
  ],
  [
    "more inputs of o than the hidden state has, fewer tiles than multiprocessors",
    { ...base, seed: 4, architecture: "qwen3", hidden: 256, heads: 8, kvHeads: 2, intermediate: 768 },
  ],
  [
    "as many KV heads, of 128, as query heads",
    { ...base, seed: 5, hidden: 512, heads: 4, kvHeads: 4, headDim: 128, intermediate: 768 },
  ],
  [
    "six query heads of 128 to a KV head",
    { ...base, seed: 6, hidden: 256, heads: 6, kvHeads: 1, headDim: 128, intermediate: 512 },
  ],
  ["heads of 64 alone, a long text", { ...base, ...long, seed: 7, kvHeads: 4, heads: 4 }, LONG],
  ["heads of 128 alone, a long text", { ...base, ...long, seed: 8, heads: 2, kvHeads: 2, headDim: 128 }, LONG],
  ["eight query heads of 64 to a KV head, a long text", { ...base, ...long, seed: 9, heads: 8, kvHeads: 1 }, LONG],
  ["four query heads of 128 to a KV head, a long text", { ...base, ...long, seed: 10, heads: 4, kvHeads: 1, headDim: 128 }, LONG],
  [
    "a sliding window, a long text",
    { ...base, ...long, seed: 11, architecture: "mistral", heads: 4, kvHeads: 2, headDim: 128, window: 200 },
    LONG,
  ],
];

/** @param image of another card, whose path is checked in the place of the card's own */
export async function checkChains(
  sources: CardSources,
  cards: readonly Card[],
  report: Report,
  image: KernelImage | undefined,
): Promise<void> {
  const possible = image === undefined && cards.find(({ unusable }) => !unusable)!.capability.startsWith("9.");
  for (const [name, model, ahead = 0] of CHAINED_MODELS)
    await report.check(`one token in one launch, ${name}`, async () => {
      using checkpoint = makeSynthetic(model);
      const ids = Array.from({ length: ahead + TOKENS }, (_, i) => (i * 31 + 7) % model.vocab);
      const wanted = referenceLogits(checkpoint.truth, ids).slice(-TOKENS);
      const said: string[] = [];
      const launches = { chain_layers: [1, 0, 0], linear_chain: [0, model.layers + 1, 0] };
      for (const [i, { chains, cacheType }] of WAYS.entries()) {
        const backend = createCudaBackend({ sources, image, chains });
        const context = 256 * Math.ceil((ids.length + 1) / 256);
        await using driver = await Driver.load(backend, checkpoint.folder, { cacheType, context });
        const sequence = driver.newSequence();
        if (ahead > 0) await driver.read(sequence, ids.slice(0, ahead), () => null);
        const got = await driver.read(sequence, ids.slice(ahead), () => ({ logits: true }), 1);
        const difference = meanDifference(
          got.map(({ logits }) => logits!),
          wanted,
        );
        if (!(difference < MEAN_BOUND)) throw new Error(`off by ${difference}, allowed ${MEAN_BOUND}`);
        const { kernels } = await (driver.runtime as CudaRuntime).profile(1, TOKENS);
        for (const [family, expected] of Object.entries(launches)) {
          const count = kernels.filter(({ kernel }) => kernel.startsWith(family)).reduce((sum, each) => sum + each.launches, 0);
          if (count !== (possible ? expected[i]! : 0)) throw new Error(`${count} launches of ${family}`);
        }
        said.push(`${(difference * 100).toFixed(2)} %`);
      }
      return said.join(", ");
    });
}

/** Whole layers, links between attentions, linears one by one. */
const WAYS = [
  { chains: true, cacheType: "f16" },
  { chains: true, cacheType: "q8" },
  { chains: false, cacheType: "f16" },
] as const;
