// A second model beside the first, in the same program: planned with what is left, and each gives back its own.

import { setTimeout as sleep } from "node:timers/promises";
import type { Card } from "../../src/backend/cuda/cards/cards.js";
import { loadModel, PlanRefusedError, plan } from "../../src/index.js";
import { formatBytes, MiB } from "../../src/memory/size.js";
import { CardSampler } from "./card-sampler.js";
import type { Report } from "./report.js";

const MODEL = "synthetic:llama-7b";
const OPTIONS = { devices: "cuda:0", ctx: 1024, prefillChunk: 512 } as const;
const PROMPT = Array.from({ length: 700 }, (_, i) => i + 5);
/** From all tokens: of made-up weights the greedy answer is one token over and over. */
const PLAIN = { temperature: 1, topK: 0, topP: 1, minP: 0, typical: 0, repetitionPenalty: 1 };
const SAMPLED = { ...PLAIN, seed: 11, maxTokens: 64, ignoreEos: true };

export async function checkTwoModels(cards: readonly Card[], report: Report): Promise<void> {
  await report.check("a second model is planned with the first in place", async () => {
    using sampler = new CardSampler(cards.map(({ uuid }) => uuid));
    const before = (await sampler.reset()).now[0]!;
    const alone = await plan(MODEL, { ...OPTIONS, ctx: "max" });
    const first = await loadModel(MODEL, OPTIONS);
    const beside = await plan(MODEL, { ...OPTIONS, ctx: "max" });
    const left = alone.devices[0]!.cap - beside.devices[0]!.cap;
    if (left < first.plan.devices[0]!.total - 24 * MiB) throw new Error(`the second may take all but ${formatBytes(left)}`);
    const all = cards[0]!.total;
    const refused = await loadModel(MODEL, { ...OPTIONS, gpuSplit: `${Math.floor(all / MiB) - 1024}MiB` }).then(
      (model) => model.dispose(),
      (error: unknown) => error,
    );
    if (!(refused instanceof PlanRefusedError)) throw new Error(`a cap of what the first holds was taken: ${refused}`);
    const second = await loadModel(MODEL, OPTIONS);
    const run = (model: typeof first) => model.generate(PROMPT, SAMPLED).result;
    const [a, b] = await Promise.all([run(first), run(second)]);
    if (new Set(a.ids).size === 1) throw new Error(`token ${a.ids[0]} over and over says nothing`);
    if (a.ids.join() !== b.ids.join()) throw new Error("they answer differently");
    const planned = first.plan.devices[0]!.total + second.plan.devices[0]!.total;
    const used = (await sampler.read()).peak[0]! - before;
    if (used > planned) throw new Error(`the card shows ${used} bytes, planned are ${planned}`);
    await first.dispose();
    await sleep(300);
    const halved = (await sampler.read()).now[0]! - before;
    if (halved > second.plan.devices[0]!.total) throw new Error(`${halved} bytes are taken by the second alone`);
    if ((await run(second)).ids.join() !== b.ids.join()) throw new Error("the second answers otherwise without the first");
    await second.dispose();
    await sleep(300);
    const rest = (await sampler.read()).now[0]! - before;
    if (rest > 0) throw new Error(`${rest} bytes are left`);
    return `both ${formatBytes(used)} of ${formatBytes(planned)} planned; one alone ${formatBytes(halved)}; refused: ${refused.message}`;
  });
}
