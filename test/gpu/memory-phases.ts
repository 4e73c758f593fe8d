// What the driver takes for itself, and when: a synthetic model is loaded and run with the card's free
// memory read around every kind of driver call that may take some. What the plan calls a
// baseline is the sum of these; a card or driver that takes more shows here by which call.

import type { Card, CardSources } from "../../src/backend/cuda/cards/cards.js";
import { planDevice } from "../../src/backend/cuda/cards/cards.js";
import { CudaDriver } from "../../src/backend/cuda/driver/driver.js";
import type { CudaFunctions } from "../../src/backend/cuda/driver/functions.js";
import { createCudaBackend } from "../../src/backend/cuda/index.js";
import { openSynthetic } from "../../src/checkpoint/synthetic.js";
import { planModel } from "../../src/memory/plan-model.js";
import { MiB } from "../../src/memory/size.js";
import { readModel } from "../../src/model/read.js";
import type { Report } from "./report.js";

/** Sequences of the models that are loaded one after the other, where none are asked for. */
const SEQUENCES = [1, 8, 32, 128];
const CONTEXT = 2048;
const TOKENS_EACH = 256;

export async function checkMemoryPhases(
  sources: CardSources,
  cards: readonly Card[],
  report: Report,
  { model = "llama-7b", sequences = SEQUENCES }: { model?: string | undefined; sequences?: readonly number[] | undefined },
): Promise<void> {
  const card = cards.find(({ unusable }) => unusable === null)!;
  for (const maxSequences of sequences)
    await report.check(`what the driver takes for ${model} and ${maxSequences} sequences`, async () => {
      const meter = new Meter(sources, card);
      const backend = createCudaBackend({ sources: { ...sources, driver: new CudaDriver(meter.functions()) } });
      const checkpoint = openSynthetic(`synthetic:${model}`);
      const spec = readModel(checkpoint);
      const plan = planModel({
        ...{ spec, packing: backend.packing, devices: [planDevice(card)], caps: "auto", context: CONTEXT, cacheType: "f16" },
        ...{ maxSequences, cacheTokens: Math.max(CONTEXT, maxSequences * TOKENS_EACH), prefillChunk: 512 },
      });
      if (!plan.ok) throw new Error(plan.message);
      const before = meter.used();
      const [loaded] = await Promise.allSettled([backend.load({ plan, spec, checkpoint })]);
      const { total, baseline } = plan.devices[0]!;
      const peak = meter.peak - before;
      console.log(`  ${meter.lines().join("\n  ")}`);
      if (loaded.status === "fulfilled") await loaded.value.dispose();
      await checkpoint.close();
      if (loaded.status === "rejected") throw loaded.reason;
      return `peak ${mib(peak)}, planned ${mib(total)} (${mib(peak - total)}), of it the driver ${mib(peak - total + baseline)}; afterwards ${mib(meter.used() - before)}`;
    });
}

/** Calls that are looked at each time; launches are looked at once per kernel. */
const EACH_TIME = new Set<keyof CudaFunctions>([
  "cuDevicePrimaryCtxRetain",
  "cuStreamCreate",
  "cuMemAlloc_v2",
  "cuMemHostAlloc",
  "cuModuleLoadData",
  "cuModuleGetFunction",
  "cuFuncSetAttribute",
  "cuStreamBeginCapture_v2",
  "cuStreamEndCapture",
  "cuGraphInstantiateWithFlags",
  "cuGraphDestroy",
  "cuGraphLaunch",
]);

class Meter {
  peak = 0;
  readonly #sources: CardSources;
  readonly #handle: bigint;
  readonly #names = new Map<bigint, string>();
  readonly #launched = new Set<string>();
  /** Bytes taken and number of calls, by what was called. */
  readonly #taken = new Map<string, { bytes: number; calls: number }>();
  readonly #graphs: string[] = [];
  #nodes = 0;

  constructor(sources: CardSources, card: Card) {
    this.#sources = sources;
    this.#handle = sources.nvml.find(card.uuid)!;
  }

  used(): number {
    const { total, free } = this.#sources.nvml.memory(this.#handle);
    return total - free;
  }

  functions(): CudaFunctions {
    const real = this.#sources.driver.functions;
    const table = Object.entries(real).map(([name, call]) => [
      name,
      (...values: unknown[]) => this.#call(name as keyof CudaFunctions, call as (...values: unknown[]) => number, values),
    ]);
    return Object.fromEntries(table) as CudaFunctions;
  }

  lines(): string[] {
    const taken = [...this.#taken].filter(([, { bytes }]) => bytes !== 0);
    return [...taken.map(([what, { bytes, calls }]) => `${what}: ${mib(bytes)} in ${calls}`), ...this.#graphs];
  }

  #call(name: keyof CudaFunctions, call: (...values: unknown[]) => number, values: unknown[]): number {
    const what = this.#interest(name, values);
    if (what === null) return call(...values);
    const before = this.used();
    const status = call(...values);
    const after = this.used();
    if (name === "cuModuleGetFunction") this.#names.set((values[0] as BigUint64Array)[0]!, values[2] as string);
    const known = this.#taken.get(what) ?? { bytes: 0, calls: 0 };
    this.#taken.set(what, { bytes: known.bytes + after - before, calls: known.calls + 1 });
    if (name === "cuGraphInstantiateWithFlags") this.#graphs.push(`graph of ${this.#nodes} nodes: ${mib(after - before)}`);
    if (name === "cuStreamBeginCapture_v2") this.#nodes = 0;
    this.peak = Math.max(this.peak, after);
    return status;
  }

  /** Under which name a call is counted, or `null`. */
  #interest(name: keyof CudaFunctions, values: readonly unknown[]): string | null {
    if (EACH_TIME.has(name)) return name;
    if (name !== "cuLaunchKernelEx") return null;
    this.#nodes++;
    const kernel = `launch of ${this.#names.get(values[1] as bigint)}`;
    if (this.#launched.has(kernel)) return null;
    this.#launched.add(kernel);
    return kernel;
  }
}

function mib(bytes: number): string {
  return `${(bytes / MiB).toFixed(2)} MiB`;
}
