// The plan against the card: synthetic models in splits of ExLlama's issue 305, the whole context
// used, the card watched from outside.

import { setTimeout as sleep } from "node:timers/promises";
import type { Card } from "../../src/backend/cuda/cards/cards.js";
import { type LoadOptions, loadModel, PlanRefusedError, plan } from "../../src/index.js";
import { CONTEXT_STEP } from "../../src/memory/plan-request.js";
import { formatBytes, MiB } from "../../src/memory/size.js";
import { CardSampler } from "./card-sampler.js";
import type { Report } from "./report.js";

interface MemoryCase {
  readonly model: string;
  readonly options: LoadOptions & { readonly ctx: number | "max" };
}

/** What the card may show more than the plan: nothing; and less: rounding and the table's baseline. */
const MOST_UNUSED = 24 * MiB;
/** The splits of issue 305 that fit a 13B model at 2048. */
const SPLITS: readonly string[] = ["3,3,3,3", "2.8,2.8,2.8,2.8", "5,2,2,2", "20,1,20,20", "3.25,2.75,3.5,2.9"];
/** Tokens generated at the end of the context. */
const LAST_TOKENS = 256;

/** Four entries: on two cards where there are two. */
function fourEntries(cards: readonly Card[]): string {
  return cards.length > 1 ? "cuda:0,cuda:0,cuda:1,cuda:1" : "cuda:0,cuda:0,cuda:0,cuda:0";
}

/** The largest context that one card holds; minutes of work. */
const LARGEST: readonly MemoryCase[] = ["llama-13b", "llama-7b", "llama-70b"].map((name) => ({
  model: `synthetic:${name}`,
  options: { devices: "cuda:0", ctx: "max", prefillChunk: 2048 },
}));

function memoryCases(cards: readonly Card[], extent: MemoryExtent): MemoryCase[] {
  if (extent === "largest") return [...LARGEST];
  const devices = fourEntries(cards);
  const split = (gpuSplit: string, ctx: number | "max" = 2048): MemoryCase => ({
    model: "synthetic:llama-13b",
    options: { devices, gpuSplit, ctx, prefillChunk: 512 },
  });
  const sevenB: MemoryCase = { model: "synthetic:llama-7b", options: { devices: "cuda:0", ctx: 2048, prefillChunk: 512 } };
  if (extent === "short") return [sevenB, split("3,3,3,3")];
  return [sevenB, ...SPLITS.map((gpuSplit) => split(gpuSplit)), ...SPLITS.map((gpuSplit) => split(gpuSplit, "max"))];
}

/** `long`: every split of the issue, and the largest contexts these allow; `largest`: the most one card holds. */
export type MemoryExtent = "short" | "long" | "largest";

/** @param only the one model that is wanted, such as `llama-70b` */
export async function checkMemory(
  cards: readonly Card[],
  report: Report,
  extent: MemoryExtent,
  only: string | undefined,
): Promise<void> {
  using sampler = new CardSampler(cards.map(({ uuid }) => uuid));
  for (const { model, options } of memoryCases(cards, extent)) {
    if (only !== undefined && model !== `synthetic:${only}`) continue;
    const { devices, gpuSplit = "auto", ctx } = options;
    await report.check(`memory ${model} split ${gpuSplit} on ${devices} ctx ${ctx}`, async () => {
      const before = (await settled(sampler)).now;
      const begun = performance.now();
      const loaded = await loadModel(model, options);
      const loadMs = performance.now() - begun;
      let peak: number[];
      let speed: string;
      try {
        const { context } = loaded.plan;
        const ids = Array.from({ length: context - LAST_TOKENS }, (_, i) => (i * 7919 + 5) % loaded.info.vocabSize);
        const { timings } = await loaded.generate(ids, { maxTokens: LAST_TOKENS, temperature: 0, ignoreEos: true }).result;
        speed = `prompt ${timings.promptTokensPerSecond.toFixed(0)}/s, decode ${timings.tokensPerSecond.toFixed(0)}/s`;
        peak = (await sampler.read()).peak;
      } finally {
        await loaded.dispose();
      }
      const said = cards.map(({ uuid }, i) => {
        const entries = loaded.plan.devices.filter(({ card }) => card === uuid);
        const planned = entries.reduce((sum, { total }) => sum + total, 0);
        const used = peak[i]! - before[i]!;
        if (used > planned) throw new Error(`card ${i} shows ${used} bytes, planned are ${planned}: ${used - planned} more`);
        if (planned > 0 && planned - used > MOST_UNUSED)
          throw new Error(`card ${i} shows only ${formatBytes(used)} of ${formatBytes(planned)}`);
        return `${entries.map(({ layers }) => layers.count).join(",")} layers, planned ${formatBytes(planned)}, peak ${formatBytes(used)} (${((used - planned) / MiB).toFixed(1)} MiB)`;
      });
      const after = (await settled(sampler)).now;
      after.forEach((now, i) => {
        if (now > before[i]!) throw new Error(`card ${i} shows ${now - before[i]!} bytes more after dispose()`);
      });
      return `context ${loaded.plan.context}, ${said.join("; ")}; loaded in ${(loadMs / 1000).toFixed(1)} s, ${speed}`;
    });
  }
  if (extent === "long") await checkBeyond(cards, report);
  if (only !== undefined) return;
  for (const [gpuSplit, ctx] of [
    ["2,2,2,2", 2048],
    ["1", 2048],
  ] as const)
    await report.check(`memory synthetic:llama-13b split ${gpuSplit} is refused`, async () => {
      const devices = gpuSplit === "1" ? "cuda:0" : fourEntries(cards);
      const error = await loadModel("synthetic:llama-13b", { devices, gpuSplit, ctx }).then(
        (model) => model.dispose(),
        (thrown: unknown) => thrown,
      );
      if (!(error instanceof PlanRefusedError)) throw new Error(`it was not refused: ${error}`);
      return error.message;
    });
}

/** One step more than the largest context of a split is refused, and says which is the largest. */
async function checkBeyond(cards: readonly Card[], report: Report): Promise<void> {
  for (const gpuSplit of SPLITS)
    await report.check(`memory synthetic:llama-13b split ${gpuSplit}, one step beyond its largest context`, async () => {
      const options = { devices: fourEntries(cards), gpuSplit, prefillChunk: 512 };
      const { largestContext } = await plan("synthetic:llama-13b", { ...options, ctx: 2048 });
      const error = await loadModel("synthetic:llama-13b", { ...options, ctx: largestContext.f16 + CONTEXT_STEP }).then(
        (model) => model.dispose(),
        (thrown: unknown) => thrown,
      );
      if (!(error instanceof PlanRefusedError)) throw new Error(`it was not refused: ${error}`);
      return `${largestContext.f16} fit; ${error.message}`;
    });
}

/** The engine's process has ended and the driver has cleaned up behind it. */
async function settled(sampler: CardSampler) {
  await sleep(300);
  return sampler.reset();
}
