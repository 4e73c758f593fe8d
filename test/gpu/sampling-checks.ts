// Tokens chosen on the card against the host's sampler: random rows of logits of many shapes with
// random parameters, and whole decode steps. Thresholds are exact on both sides, weights are not: a
// different id is let pass only where the host itself would choose it with borders moved by a
// millionth, or with adjusted logits rounded to fp32.

import type { Backend } from "../../src/backend/backend.js";
import type { DeviceContext } from "../../src/backend/cuda/cards/device-context.js";
import { writeParameters } from "../../src/backend/cuda/launch/parameter-layout.js";
import { CHOOSE, INSPECT, SAMPLE_SLOT } from "../../src/backend/cuda/outputs/output-layouts.js";
import { finishOutput } from "../../src/backend/cuda/outputs/outputs.js";
import { SampleSlots } from "../../src/backend/cuda/outputs/sample-slots.js";
import { slicesPerRow } from "../../src/backend/cuda/outputs/sampling-shape.js";
import { FACT_BYTES } from "../../src/backend/cuda/steps/step-shape.js";
import { collectAdjustments } from "../../src/sampling/adjustments.js";
import { type Candidates, gather, weigh } from "../../src/sampling/candidates.js";
import { draw } from "../../src/sampling/draw.js";
import { GREEDY, type SampleRequest, type SamplingParameters } from "../../src/sampling/parameters.js";
import { uniformAt } from "../../src/sampling/philox.js";
import { applyMask } from "../../src/sampling/restrictions.js";
import { sample } from "../../src/sampling/sample.js";
import { keepMinP, keepTopK, keepTopP } from "../../src/sampling/truncation.js";
import { Driver } from "../conformance/driver.js";
import { fixture } from "../support/fixtures.js";
import { Random } from "../support/random.js";
import type { Report } from "./report.js";

/** Vocabulary and draws. */
const VOCABULARIES: readonly (readonly [vocabSize: number, draws: number])[] = [
  [37, 512],
  [1000, 1024],
  [32000, 1536],
  [50257, 256],
  [128256, 256],
  [262144, 64],
];
const ROWS = 32;
const BORDER = 1e-6;
const POOL = ROWS * (1024 * 24 + 32768);
const SLOTS = 2048;

/** Compares the kernels with src/sampling/. @returns what was found */
export async function checkSampling(gpu: DeviceContext, vocabularies = VOCABULARIES): Promise<string> {
  const said: string[] = [];
  for (const [vocabSize, draws] of vocabularies) {
    const card = new Card(gpu, vocabSize);
    let border = 0;
    let greatest = 0;
    for (let first = 0; first < draws; first += ROWS) {
      const random = new Random(vocabSize * 7 + first);
      const rows = Array.from({ length: ROWS }, (_, i) => randomRow(vocabSize, first + i, random));
      const requests = rows.map((_, i) => randomRequest(vocabSize, first + i, random));
      const answers = await card.choose(rows, requests);
      const again = await card.choose(rows, requests);
      // As when a step is queued before its ids are known: that is for the repetition penalty alone.
      const lone = requests.map((request) => ({
        ...request,
        mask: null,
        parameters: { ...request.parameters, frequencyPenalty: 0, presencePenalty: 0, repetitionPenalty: 1.3 },
      }));
      const known = await card.choose(rows, lone);
      (await card.choose(rows, lone, true)).forEach(({ id, logprob }, i) => {
        if (known[i]!.id !== id || !Object.is(known[i]!.logprob, logprob))
          throw new Error("an id that only the card knows is penalised otherwise");
      });
      answers.forEach(({ id, logprob }, i) => {
        if (again[i]!.id !== id || !Object.is(again[i]!.logprob, logprob)) throw new Error("a repeat gave another answer");
        const host = sample(rows[i]!, requests[i]!);
        if (host.id === id) greatest = Math.max(greatest, Math.abs(host.logprob - logprob));
        else if (possible(rows[i]!, requests[i]!).has(id)) border++;
        else throw new Error(`vocabulary ${vocabSize}, draw ${first + i}: ${id}, the host ${host.id} (${show(requests[i]!)})`);
      });
    }
    if (greatest > 1e-4) throw new Error(`log-probabilities off by ${greatest}`);
    said.push(`${vocabSize}: ${draws - border}/${draws}, log-probabilities within ${greatest.toExponential(0)}`);
    card.free();
  }
  return said.join("; ");
}

/** Prints what choosing takes. */
export async function timeSampling(gpu: DeviceContext): Promise<string> {
  const kinds: [string, Partial<SamplingParameters>][] = [
    ["greedy", {}],
    ["temperature", { temperature: 1 }],
    ["top-p", { temperature: 1, topP: 0.95 }],
    ["top-k, top-p", { temperature: 0.8, topK: 40, topP: 0.95 }],
    ["penalties, top-k, top-p, min-p", { temperature: 0.8, topK: 40, topP: 0.95, minP: 0.05, repetitionPenalty: 1.1 }],
  ];
  const said: string[] = [];
  for (const vocabSize of [32000, 128256]) {
    const card = new Card(gpu, vocabSize);
    const random = new Random(1);
    const logits = Float32Array.from({ length: vocabSize }, () => random.normal() * 2.5);
    for (const [name, parameters] of kinds) {
      const history = Int32Array.from({ length: 400 }, () => random.integer(vocabSize));
      const us = card.time(logits, { ...plain(0), history, parameters: { ...GREEDY, ...parameters } });
      said.push(`${vocabSize} ${name} ${us.toFixed(1)} us`);
    }
    card.free();
  }
  return said.join("; ");
}

/** Decode steps of the demo model: what the card chooses is what the host chooses from the same logits. */
export async function checkSampledSteps(backend: Backend, report: Report): Promise<void> {
  await report.check("sampled decode steps choose as the host does", async () => {
    const options = { cacheType: "f16" as const, context: 256, prefillChunk: 64, maxSequences: 4 };
    await using driver = await Driver.load(backend, fixture("demo-gptq-4bit-g128"), options);
    const kinds: Partial<SamplingParameters>[] = [
      { temperature: 0.8, topK: 40, topP: 0.95, repetitionPenalty: 1.15 },
      { temperature: 1 },
      { frequencyPenalty: 0.7, presencePenalty: 0.3, logitBias: [[300, 4]] },
      { temperature: 1.3, minP: 0.02, bannedIds: [13] },
    ];
    const sequences = kinds.map(() => driver.newSequence());
    const texts = kinds.map((_, i) => [1, 300 + i, 400 + i]);
    let [same, all] = [0, 0];
    for (let step = 0; step < 60; step++) {
      const ask = (logits: boolean) =>
        sequences.map((sequence, i) => {
          const ids = texts[i]!.slice(sequence.length);
          const request: SampleRequest = {
            ...plain(i),
            parameters: { ...GREEDY, ...kinds[i] },
            history: Int32Array.from(texts[i]!),
            promptLength: 3,
            position: texts[i]!.length,
          };
          return { sequence, ids, outputs: [{ index: ids.length - 1, sample: request, logits }] };
        });
      const lengths = sequences.map(({ length }) => length);
      const device = await driver.step(ask(false));
      sequences.forEach((sequence, i) => {
        sequence.length = lengths[i]!;
      });
      const asked = ask(true);
      const host = await driver.step(asked);
      host.forEach(([output], i) => {
        all++;
        const chosen = device[i]![0]!;
        if (chosen.logits !== null) throw new Error("logits came that nobody asked for");
        if (chosen.id === output!.id) same++;
        else if (!possible(output!.logits!, asked[i]!.outputs[0]!.sample).has(chosen.id!))
          throw new Error(`step ${step}, sequence ${i}: ${chosen.id}, the host ${output!.id}`);
        else if (Math.abs(chosen.logprob! - output!.logprob!) > 1e-4) throw new Error("another log-probability");
        texts[i]!.push(chosen.id!);
      });
    }
    return `${same}/${all}`;
  });
}

/** Rows of logits on the card, and its two kernels. */
class Card {
  readonly #gpu: DeviceContext;
  readonly #vocabSize: number;
  readonly #slices: number;
  readonly #logits: bigint;
  readonly #targets: bigint;
  readonly #sliceFacts: bigint;
  readonly #facts: bigint;
  readonly #slots: bigint;
  readonly #ids: bigint;
  readonly #host = new ArrayBuffer(SLOTS + POOL);
  readonly #writer: SampleSlots;

  constructor(gpu: DeviceContext, vocabSize: number) {
    this.#gpu = gpu;
    this.#vocabSize = vocabSize;
    this.#slices = slicesPerRow(vocabSize);
    this.#logits = gpu.allocate(ROWS * vocabSize * 4);
    this.#targets = gpu.allocate(ROWS * 4);
    this.#sliceFacts = gpu.allocate(ROWS * this.#slices * 16);
    this.#facts = gpu.allocate(ROWS * FACT_BYTES);
    this.#slots = gpu.allocate(SLOTS + POOL);
    this.#ids = gpu.allocate(ROWS * 4);
    if (ROWS * SAMPLE_SLOT.bytes > SLOTS) throw new Error("too many rows");
    this.#writer = new SampleSlots(vocabSize, this.#host, SLOTS);
    gpu.fill(this.#targets, 0xff, ROWS * 4);
  }

  /** @param newer the newest id of every history is told to the card as what was fed, and left out of the rest */
  async choose(
    rows: readonly Float32Array[],
    requests: readonly SampleRequest[],
    newer = false,
  ): Promise<{ id: number; logprob: number }[]> {
    const outputs = this.#send(rows, requests, newer);
    this.#launch(rows.length);
    const facts = new DataView(new ArrayBuffer(rows.length * FACT_BYTES));
    this.#gpu.copyOut(facts, this.#facts);
    this.#gpu.synchronize();
    const unwanted = {
      vocabSize: this.#vocabSize,
      logits: () => Promise.reject(new Error("the row is wanted")),
      hidden: () => new Float32Array(),
    };
    const finished = await Promise.all(outputs.map((output, i) => finishOutput(output, true, facts, i, unwanted)));
    return finished.map(({ id, logprob }) => ({ id: id!, logprob: logprob! }));
  }

  /** Microseconds of both kernels for one row, by events. */
  time(row: Float32Array, request: SampleRequest): number {
    const { driver, stream } = this.#gpu;
    const calls = 200;
    this.#send([row], [request]);
    const [begin, end] = [driver.u64("cuEventCreate", [0]), driver.u64("cuEventCreate", [0])];
    const graph = this.#gpu.capture(() => {
      for (let call = 0; call < calls; call++) this.#launch(1);
    });
    this.#gpu.launchGraph(graph);
    driver.call("cuEventRecord", [begin, stream]);
    this.#gpu.launchGraph(graph);
    driver.call("cuEventRecord", [end, stream]);
    this.#gpu.synchronize();
    const ms = new Float32Array(1);
    driver.call("cuEventElapsedTime_v2", [ms, begin, end]);
    return (ms[0]! / calls) * 1000;
  }

  free(): void {
    for (const pointer of [this.#logits, this.#targets, this.#sliceFacts, this.#facts, this.#slots, this.#ids])
      this.#gpu.free(pointer);
  }

  #send(rows: readonly Float32Array[], requests: readonly SampleRequest[], newer = false) {
    rows.forEach((row, i) => {
      this.#gpu.copyIn(this.#logits + BigInt(i * this.#vocabSize * 4), row);
    });
    const older = (request: SampleRequest) => ({ ...request, history: request.history.slice(0, -1) });
    this.#gpu.copyIn(
      this.#ids,
      Int32Array.from(requests, ({ history }) => history.at(-1) ?? -1),
    );
    const outputs = requests.map((each) => ({
      index: 0,
      sample: newer ? older(each) : each,
      target: null,
      topLogprobs: 0,
      logits: false,
      hidden: false,
    }));
    const { bytes, chosen } = this.#writer.write(outputs, rows.length, newer);
    const left = chosen.indexOf(false);
    if (left >= 0) throw new Error(`left to the host: ${show(requests[left]!)}`);
    this.#gpu.copyIn(this.#slots, new Uint8Array(this.#host, 0, bytes));
    this.#gpu.synchronize();
    return outputs;
  }

  #launch(rows: number): void {
    const slices = { slices: this.#sliceFacts, slicesPerRow: this.#slices };
    const launch = (name: string, grid: [number, number?], block: number, parameters: Uint8Array) =>
      this.#gpu.launcher.launch(this.#gpu.stream, {
        kernel: this.#gpu.kernels.get("sample", name),
        name,
        grid,
        block,
        parameters,
        overlap: this.#gpu.card.major >= 9,
      });
    const vocab = this.#vocabSize;
    const inspect = writeParameters(INSPECT, { logits: this.#logits, ...slices, vocab });
    launch("inspect_logits", [this.#slices, rows], 256, inspect);
    const choose = {
      logits: this.#logits,
      ...slices,
      targets: this.#targets,
      slots: this.#slots,
      pool: this.#slots + BigInt(SLOTS),
      facts: this.#facts,
      ids: this.#ids,
      vocab,
    };
    launch("choose_token", [rows], 512, writeParameters(CHOOSE, choose));
  }
}

/** Ids that the host chooses with every border moved a little, and with adjusted logits of fp32. */
function possible(logits: Float32Array, request: SampleRequest): Set<number> {
  const { temperature, topK, topP, minP } = request.parameters;
  const found = new Set<number>();
  const size = logits.length;
  for (const round of [false, true]) {
    const adjusted = Float64Array.from(logits);
    for (const [id, { factor, add }] of collectAdjustments(request, size)) {
      const logit = adjusted[id]!;
      const value = (logit > 0 ? logit / factor : logit * factor) + add;
      adjusted[id] = round ? Math.fround(value) : value;
    }
    if (request.mask) applyMask(adjusted, request.mask);
    let best = 0;
    for (let id = 1; id < size; id++) if (adjusted[id]! > adjusted[best]!) best = id;
    if (temperature === 0) {
      found.add(best);
      continue;
    }
    for (const p of topP < 1 ? [topP * (1 - BORDER), topP, topP * (1 + BORDER)] : [1])
      for (const share of minP > 0 ? [minP * (1 - BORDER), minP * (1 + BORDER)] : [0]) {
        const [ids, weights] = [new Int32Array(size), new Float64Array(size)];
        const candidates: Candidates = { ids, count: 0, logits: adjusted, weights };
        gather(candidates);
        if (topK > 0) keepTopK(candidates, topK);
        weigh(candidates, adjusted[best]!, temperature);
        if (p < 1) keepTopP(candidates, p);
        if (share > 0) keepMinP(candidates, share);
        const uniform = uniformAt(request.seed, request.position);
        for (const moved of [uniform - BORDER, uniform, uniform + BORDER])
          found.add(draw(candidates, Math.min(1 - 2 ** -53, Math.max(0, moved))));
      }
  }
  return found;
}

/** Normal, spiked, tied, level and partly impossible rows. */
function randomRow(vocabSize: number, index: number, random: Random): Float32Array {
  const row = new Float32Array(vocabSize);
  const spread = [0.5, 2, 5][index % 3]!;
  const kind = Math.floor(index / 3) % 6;
  for (let id = 0; id < vocabSize; id++) row[id] = random.normal() * spread;
  if (kind === 1) for (let i = 0; i < 5; i++) row[random.integer(vocabSize)] = 15 + random.uniform() * 5;
  if (kind === 2) for (let id = 0; id < vocabSize; id++) row[id] = Math.round(row[id]! * 2) / 2;
  if (kind === 3) row.fill(-0.5);
  if (kind === 4) for (let id = 0; id < vocabSize; id++) if (random.uniform() < 0.5) row[id] = -Infinity;
  if (kind === 4) row[random.integer(vocabSize)] = 1;
  if (kind === 5) for (let id = 0; id < vocabSize; id++) row[id] = row[id]! * 1e-4 - (id % 3) * 30;
  return row;
}

function randomRequest(vocabSize: number, index: number, random: Random): SampleRequest {
  const one = <Value>(...values: Value[]): Value => values[Math.floor(random.uniform() * values.length)]!;
  const id = () => random.integer(vocabSize);
  const penalised = random.uniform() < 0.3;
  const parameters: SamplingParameters = {
    ...GREEDY,
    temperature: one(0, 0.1, 0.7, 0.7, 1, 1, 1.5, 4),
    topK: one(0, 0, 1, 7, 40, 100, 1500, 5000),
    topP: one(1, 1, 0.1, 0.5, 0.9, 0.95, 0.999),
    minP: one(0, 0, 0.02, 0.3, 1),
    repetitionPenalty: penalised ? one(1, 1.1, 1.3, 0.8) : 1,
    frequencyPenalty: penalised ? one(0, 0.4) : 0,
    presencePenalty: penalised ? one(0, 0.6) : 0,
    logitBias: penalised ? [[id(), 5] as const, [id(), -100] as const, [id(), 2.5] as const] : [],
    bannedIds: penalised ? [id(), id()] : [],
  };
  const history = Int32Array.from({ length: 500 }, id);
  const words = Math.ceil(vocabSize / 32) - one(0, 0, 1);
  const mask = random.uniform() < 0.2 ? Uint32Array.from({ length: words }, () => random.word()) : null;
  if (mask && mask.length > 0) mask[0]! |= 0x00ff00ff;
  return { parameters, history, promptLength: 100, seed: index * 977 + vocabSize * 2 ** 33, position: index, mask };
}

function plain(seed: number): SampleRequest {
  return { parameters: GREEDY, history: new Int32Array(), promptLength: 0, seed, position: 0, mask: null };
}

function show({ parameters, mask }: SampleRequest): string {
  return JSON.stringify({ ...parameters, mask: mask !== null });
}
