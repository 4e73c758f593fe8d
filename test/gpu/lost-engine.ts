// After an error that poisons its process an engine ends: its card is free again, a model that another engine holds goes
// on as if nothing had been, and the next load starts a fresh one.

import { setTimeout as sleep } from "node:timers/promises";
import type { Card } from "../../src/backend/cuda/cards/cards.js";
import { loadOver } from "../../src/engine/client.js";
import { startProcess } from "../../src/engine/process-link.js";
import { ExllamaError } from "../../src/errors.js";
import { demoModel, loadModel, type Model } from "../../src/index.js";
import { MiB } from "../../src/memory/size.js";
import { distFile } from "../../src/paths.js";
import { CardSampler } from "./card-sampler.js";
import type { Report } from "./report.js";

const OPTIONS = { devices: "cuda:0", ctx: 256 } as const;
/** Of such an error the driver itself keeps a little (64 KiB on an H100) while others use the card; an engine takes 530 MiB. */
const DRIVERS_OWN = MiB;
// More than a decode step: such a prompt is launched kernel by kernel.
const PROMPT = Array.from({ length: 40 }, (_, i) => i + 5);

export async function checkLostEngine(cards: readonly Card[], report: Report): Promise<void> {
  await report.check("an engine that its card has poisoned is replaced", async () => {
    using sampler = new CardSampler(cards.map(({ uuid }) => uuid));
    await using neighbour = await loadModel(demoModel, OPTIONS);
    const expected = await answer(neighbour);
    const before = (await sampler.reset()).now;
    const lost = await loadOver(startProcess(distFile("gpu/poisoned-engine.js")), demoModel, OPTIONS);
    const first = await codeOf(answer(lost));
    if (first !== "CUDA_POISONED") throw new Error(`the answer ended in ${first}`);
    const second = await codeOf(answer(lost));
    if (second === "none") throw new Error("the engine went on");
    await lost.dispose();
    await sleep(500);
    const after = (await sampler.read()).now;
    after.forEach((now, i) => {
      if (now > before[i]! + DRIVERS_OWN) throw new Error(`card ${i} shows ${now - before[i]!} bytes more than before`);
    });
    if ((await answer(neighbour)) !== expected) throw new Error("the neighbour answers otherwise");
    await using fresh = await loadModel(demoModel, OPTIONS);
    if ((await answer(fresh)) !== expected) throw new Error("the fresh engine answers otherwise");
    return `the answer ended in ${first}, the next in ${second}; the card's memory is free, others go on`;
  });
}

async function answer(model: Model): Promise<string> {
  const { ids } = await model.generate(PROMPT, { maxTokens: 8, temperature: 0, ignoreEos: true }).result;
  return ids.join(",");
}

async function codeOf(answering: Promise<unknown>): Promise<string> {
  return answering.then(
    () => "none",
    (error: unknown) => (error instanceof ExllamaError ? error.code : String(error)),
  );
}
