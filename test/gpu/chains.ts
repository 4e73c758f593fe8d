// One token's linears between two attentions in one launch, in the engine: random models, token by token, against the
// reference forward pass, and beside the same linears one by one.

import type { Card, CardSources } from "../../src/backend/cuda/cards.js";
import type { KernelImage } from "../../src/backend/cuda/device-context.js";
import { createCudaBackend } from "../../src/backend/cuda/index.js";
import type { CudaRuntime } from "../../src/backend/cuda/runtime.js";
import { Driver } from "../conformance/driver.js";
import { meanDifference } from "../reference/compare.js";
import { referenceLogits } from "../reference/forward.js";
import { gptqWeights, makeSynthetic, type SyntheticModel, smallLlama } from "../support/synthetic-checkpoint.js";
import type { Report } from "./report.js";

/** Root mean square in units of the logits' deviation, as for every other synthetic model. */
const MEAN_BOUND = 0.02;
const TOKENS = 24;

const weights = { ...gptqWeights, groupSize: 128, symmetric: false };
const base = { ...smallLlama, weights, hidden: 1024, heads: 16, kvHeads: 4, headDim: 64, intermediate: 2816 };
const MODELS: readonly (readonly [string, SyntheticModel])[] = [
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
];

/** @param image of an older card, whose path is checked in the place of the card's own */
export async function checkChains(
  sources: CardSources,
  cards: readonly Card[],
  report: Report,
  image: KernelImage | undefined,
): Promise<void> {
  const possible = image === undefined && cards.find(({ unusable }) => !unusable)!.capability.startsWith("9.");
  for (const [name, model] of MODELS)
    await report.check(`one launch between two attentions, ${name}`, async () => {
      using checkpoint = makeSynthetic(model);
      const ids = Array.from({ length: TOKENS }, (_, i) => (i * 31 + 7) % model.vocab);
      const wanted = referenceLogits(checkpoint.truth, ids);
      const said: string[] = [];
      for (const chains of [true, false]) {
        const backend = createCudaBackend({ sources, image, chains });
        await using driver = await Driver.load(backend, checkpoint.folder, { cacheType: "f16", context: 256 });
        const difference = meanDifference(await driver.logits(ids, { chunk: 1 }), wanted);
        if (!(difference < MEAN_BOUND)) throw new Error(`off by ${difference}, allowed ${MEAN_BOUND}`);
        const { kernels } = await (driver.runtime as CudaRuntime).profile(1, TOKENS);
        const launches = kernels
          .filter(({ kernel }) => kernel.startsWith("linear_chain"))
          .reduce((sum, each) => sum + each.launches, 0);
        if (launches !== (chains && possible ? model.layers + 1 : 0)) throw new Error(`${launches} such launches`);
        said.push(`${(difference * 100).toFixed(2)} %${launches > 0 ? ` in ${launches} launches` : " one by one"}`);
      }
      return said.join(", ");
    });
}
