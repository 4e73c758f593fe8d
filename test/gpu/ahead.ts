// Steps queued ahead of their ids against the same steps asked for one by one: the same bits, whoever leaves.

import { createHash } from "node:crypto";
import type { Backend, BatchEntry, Runtime } from "../../src/backend/backend.js";
import { openCheckpoint } from "../../src/checkpoint/local.js";
import { EXLLAMA_DEFAULTS } from "../../src/generate/defaults.js";
import { demoModel } from "../../src/index.js";
import { PAGE_TOKENS } from "../../src/memory/plan.js";
import { planModel } from "../../src/memory/plan-model.js";
import { MiB } from "../../src/memory/size.js";
import { readModel } from "../../src/model/read.js";
import { GREEDY, type SamplingParameters } from "../../src/sampling/parameters.js";
import type { Report } from "./report.js";

const STEPS = 400;
const PAGES = 3;
const PROMPT = 5;
const KINDS: readonly (readonly [string, SamplingParameters])[] = [
  ["greedy", GREEDY],
  ["ExLlama's defaults", EXLLAMA_DEFAULTS],
  ["penalties on everything", { ...EXLLAMA_DEFAULTS, repetitionPenalty: 1.3, penaltySustain: -1 }],
];

/** Sequences at once at first and in the end: within one size of captured steps. */
const CROWDS = [
  [1, 1],
  [8, 5],
  [40, 33],
] as const;

/** @param entries on the one card */
export async function checkAhead(backend: Backend, report: Report, entries = 1): Promise<void> {
  for (const [most, least] of CROWDS)
    for (const [name, parameters] of KINDS)
      await report.check(`steps ahead, ${entries > 1 ? `${entries} entries, ` : ""}${most} sequences, ${name}`, async () => {
        const runtime = await load(backend, most, entries);
        try {
          const begun = performance.now();
          const ahead = await hashOfSteps(runtime, { most, least, parameters, ahead: true });
          const between = performance.now();
          const alone = await hashOfSteps(runtime, { most, least, parameters, ahead: false });
          if (ahead !== alone) throw new Error("other bits");
          const each = (ms: number) => `${((ms * 1e3) / STEPS).toFixed(0)} µs`;
          return `the same bits; ${each(between - begun)} a step, one by one ${each(performance.now() - between)}`;
        } finally {
          await runtime.dispose();
        }
      });
}

async function load(backend: Backend, maxSequences: number, entries: number): Promise<Runtime> {
  const checkpoint = await openCheckpoint(demoModel);
  try {
    const spec = readModel(checkpoint);
    const [device] = backend.devices();
    const plan = planModel({
      ...{ spec, packing: backend.packing, devices: Array.from({ length: entries }, () => device!), splitMode: "even" },
      caps: Array.from({ length: entries }, (_, i) => (i === 0 ? 2048 : 1400) * MiB),
      ...{ context: PAGES * PAGE_TOKENS, cacheTokens: maxSequences * PAGES * PAGE_TOKENS, cacheType: "f16" },
      ...{ maxSequences, prefillChunk: 64 },
    });
    if (!plan.ok) throw new Error(plan.message);
    return await backend.load({ plan, spec, checkpoint });
  } finally {
    await checkpoint.close();
  }
}

interface Crowd {
  readonly most: number;
  readonly least: number;
  readonly parameters: SamplingParameters;
  readonly ahead: boolean;
}

async function hashOfSteps(runtime: Runtime, { most, least, parameters, ahead }: Crowd): Promise<string> {
  const texts = Array.from({ length: most }, (_, i) => Array.from({ length: PROMPT }, (_, j) => (i * 37 + j * 11) % 250));
  const hash = createHash("sha256");
  const entryOf = (ids: readonly number[], number: number, start: number): BatchEntry => {
    const sample = {
      parameters,
      history: Int32Array.from(ids),
      promptLength: PROMPT,
      seed: number,
      position: ids.length,
      mask: null,
    };
    return {
      tokens: Int32Array.from(ids.slice(start)),
      start,
      ropeLength: ids.length,
      pages: [Int32Array.from({ length: PAGES }, (_, i) => number * PAGES + i)],
      // A target is something that nobody queues ahead for.
      outputs: [
        { index: ids.length - start - 1, sample, target: ahead ? null : 1, topLogprobs: 0, logits: false, hidden: false },
      ],
    };
  };
  for (const [number, ids] of texts.entries()) {
    const [first] = await runtime.step([entryOf(ids, number, 0)]);
    ids.push(first![0]!.id!);
  }
  for (let step = 0; step < STEPS; step++) {
    // One after the other leaves, from the middle as well; who came back would be computed in steps of another size.
    const gone = Math.floor((step * (most - least + 1)) / STEPS);
    const numbers = texts.map((_, i) => i).filter((i) => (i * 7 + 3) % most >= gone);
    const answers = await runtime.step(numbers.map((number) => entryOf(texts[number]!, number, texts[number]!.length - 1)));
    for (const [i, number] of numbers.entries()) {
      const { id, logprob } = answers[i]![0]!;
      hash.update(Float64Array.of(number, id!, logprob!));
      texts[number]!.push(id!);
    }
  }
  return hash.digest("hex");
}
