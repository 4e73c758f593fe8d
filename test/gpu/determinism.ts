// The same bits: again, without graphs, and however the layers are spread over devices.

import { createHash } from "node:crypto";
import type { Output } from "../../src/backend/backend.js";
import type { Card, CardSources } from "../../src/backend/cuda/cards/cards.js";
import { planDevice } from "../../src/backend/cuda/cards/cards.js";
import { type CudaBackendOptions, createCudaBackend } from "../../src/backend/cuda/index.js";
import { openCheckpoint } from "../../src/checkpoint/local.js";
import { planModel } from "../../src/memory/plan-model.js";
import { MiB } from "../../src/memory/size.js";
import { readModel } from "../../src/model/read.js";
import { GREEDY } from "../../src/sampling/parameters.js";
import { fixture } from "../support/fixtures.js";
import type { Report } from "./report.js";

const STEPS = 1000;
/** Prompts of their own: tokens for which norms are put off on Hopper, and x carries factors from stage to stage. */
const SHORT_PROMPTS = [5, 8, 13, 16];
const PROMPT = 20;
const CONTEXT = 1024;

export async function checkDeterminism(sources: CardSources, cards: readonly Card[], report: Report): Promise<void> {
  const usable = cards.filter(({ unusable }) => unusable === null);
  const one = [usable[0]!];
  const twice = [usable[0]!, usable[0]!, usable[0]!];
  const variants: [string, readonly Card[], CudaBackendOptions][] = [
    ["again", one, {}],
    ["without graphs", one, { graphs: false }],
    ["kernels one after the other", one, { overlap: false }],
    ["three entries on one card", twice, {}],
  ];
  if (usable.length > 1)
    variants.push(
      ["two cards", [usable[0]!, usable[1]!], {}],
      ["two cards, through the host", [usable[0]!, usable[1]!], { peers: false }],
    );
  const first = await hashOfSteps(sources, one, {});
  for (const [name, on, options] of variants)
    await report.check(`${STEPS} steps, ${name}`, async () => {
      const hash = await hashOfSteps(sources, on, options);
      if (hash !== first) throw new Error(`other bits: ${hash}, not ${first}`);
      return "the same bits";
    });
}

/** Over the logits of every step. */
async function hashOfSteps(sources: CardSources, cards: readonly Card[], options: CudaBackendOptions): Promise<string> {
  const backend = createCudaBackend({ ...options, sources });
  const checkpoint = await openCheckpoint(fixture("demo-gptq-4bit-g128"));
  const spec = readModel(checkpoint);
  const devices = cards.map(planDevice);
  const plan = planModel({
    spec,
    packing: backend.packing,
    devices,
    // Caps that force the layers apart where there are several entries.
    caps: devices.map((device, i) => (i === 0 || device.card !== devices[0]!.card ? 1024 * MiB : 400 * MiB)),
    splitMode: "even",
    context: CONTEXT,
    cacheType: "f16",
    prefillChunk: 64,
  });
  if (!plan.ok) throw new Error(plan.message);
  const runtime = await backend.load({ plan, spec, checkpoint });
  try {
    const hash = createHash("sha256");
    const pages = plan.cacheGroups.map(({ pages: count }) => Int32Array.from({ length: count }, (_, i) => count - 1 - i));
    let tokens = Int32Array.from({ length: PROMPT }, (_, i) => i + 100);
    for (let start = 0; start < PROMPT + STEPS - 1; ) {
      const end = start + tokens.length;
      const sample = { parameters: GREEDY, history: new Int32Array(0), promptLength: 0, seed: 0, position: end, mask: null };
      const request = { index: tokens.length - 1, sample, target: null, topLogprobs: 0, logits: end % 16 === 0, hidden: false };
      const [[output]] = (await runtime.step([{ tokens, start, ropeLength: end, pages, outputs: [request] }])) as [[Output]];
      hash.update(Float64Array.of(output.id!, output.logprob!));
      if (output.logits) hash.update(output.logits);
      tokens = Int32Array.of(output.id!);
      start = end;
    }
    for (const count of SHORT_PROMPTS) {
      const tokens = Int32Array.from({ length: count }, (_, i) => i * 7 + 50);
      const wanted = Array.from(tokens, (_, index) => ({
        index,
        sample: null,
        target: null,
        topLogprobs: 0,
        logits: true,
        hidden: false,
      }));
      const [answers] = (await runtime.step([{ tokens, start: 0, ropeLength: count, pages, outputs: wanted }])) as [Output[]];
      for (const { logits } of answers) hash.update(logits!);
    }
    const spread = plan.devices.filter(({ stage }) => stage !== null).length;
    if (spread < cards.length) throw new Error(`the plan used ${spread} of ${cards.length} entries`);
    return hash.digest("hex");
  } finally {
    await runtime.dispose();
    await checkpoint.close();
  }
}
