// Small random LoRA adapters for a model, made from a seed: the folder as PEFT writes it, and the
// model that it makes of another one, W + weight · scale · B A, for the reference.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DenseLinear, ReferenceModel } from "../reference/model.js";
import { type FloatType, roundedTo } from "./element-types.js";
import { Random } from "./random.js";
import { safetensorsBytes, type WrittenTensor } from "./safetensors-writer.js";
import { floatTensor } from "./synthetic-linear.js";
import { torchFileBytes } from "./torch-file-writer.js";

const MODULES = {
  q: "q_proj",
  k: "k_proj",
  v: "v_proj",
  o: "o_proj",
  gate: "gate_proj",
  up: "up_proj",
  down: "down_proj",
} as const;
export type Target = keyof typeof MODULES;
export const ALL_TARGETS = Object.keys(MODULES) as Target[];

export interface SyntheticAdapter {
  readonly seed: number;
  readonly targets: readonly Target[];
  readonly rank: number;
  readonly alpha: number;
  readonly dtype: FloatType;
  readonly file: "safetensors" | "bin";
  /** Further fields of adapter_config.json. */
  readonly config: Record<string, unknown>;
  /** Rank and scale of one module, where the config gives it others. */
  readonly pairOf: (layer: number, target: Target) => { readonly rank: number; readonly scale: number };
  /** Layers that are left alone. */
  readonly without: readonly number[];
  /** Between `lora_A` and `.weight`: PEFT's newer files have nothing there. */
  readonly infix: "" | ".default";
}

export const smallAdapter: SyntheticAdapter = {
  seed: 1,
  targets: ALL_TARGETS,
  rank: 4,
  alpha: 8,
  dtype: "f16",
  file: "safetensors",
  config: {},
  pairOf: () => ({ rank: 4, scale: 2 }),
  without: [],
  infix: "",
};

interface Pair {
  readonly rank: number;
  readonly scale: number;
  /** As stored. */
  readonly a: Float64Array;
  readonly b: Float64Array;
}

export interface WrittenAdapter extends Disposable {
  readonly folder: string;
  readonly tensors: readonly WrittenTensor[];
  /** The model with this adapter added. */
  applied(model: ReferenceModel, weight: number): ReferenceModel;
}

/** Its tensors and its config. */
export function adapterFiles(adapter: SyntheticAdapter, model: ReferenceModel) {
  const random = new Random(adapter.seed);
  const pairs = new Map<string, Pair>();
  const tensors: WrittenTensor[] = [];
  model.layers.forEach((layer, index) => {
    if (adapter.without.includes(index)) return;
    for (const target of adapter.targets) {
      const { rank, scale } = adapter.pairOf(index, target);
      const linear: DenseLinear = layer[target];
      // As large as a trained one that matters: about a third of what the linear itself gives.
      const a = random.normals(rank * linear.in, 1 / Math.sqrt(linear.in));
      const b = random.normals(
        linear.out * rank,
        (0.3 * deviation(linear) * Math.sqrt(linear.in)) / (Math.sqrt(rank) * Math.abs(scale)),
      );
      const part = target === "gate" || target === "up" || target === "down" ? "mlp" : "self_attn";
      const name = `base_model.model.model.layers.${index}.${part}.${MODULES[target]}.lora_`;
      tensors.push(floatTensor(`${name}A${adapter.infix}.weight`, [rank, linear.in], a, adapter.dtype));
      tensors.push(floatTensor(`${name}B${adapter.infix}.weight`, [linear.out, rank], b, adapter.dtype));
      pairs.set(`${index}.${target}`, { rank, scale, a: roundedTo(a, adapter.dtype), b: roundedTo(b, adapter.dtype) });
    }
  });
  const config: Record<string, unknown> = {
    peft_type: "LORA",
    r: adapter.rank,
    lora_alpha: adapter.alpha,
    target_modules: adapter.targets.map((target) => MODULES[target]),
    bias: "none",
    fan_in_fan_out: false,
    ...adapter.config,
  };
  return { tensors, config, pairs };
}

export function writeAdapterFiles(
  folder: string,
  config: unknown,
  tensors: readonly WrittenTensor[],
  file: "safetensors" | "bin",
): void {
  writeFileSync(join(folder, "adapter_config.json"), JSON.stringify(config));
  writeFileSync(join(folder, `adapter_model.${file}`), file === "bin" ? torchFileBytes(tensors) : safetensorsBytes(tensors));
}

export function makeAdapter(adapter: SyntheticAdapter, model: ReferenceModel): WrittenAdapter {
  const { tensors, config, pairs } = adapterFiles(adapter, model);
  const folder = mkdtempSync(join(tmpdir(), "exllama-adapter-"));
  writeAdapterFiles(folder, config, tensors, adapter.file);
  return {
    folder,
    tensors,
    applied: (of, weight) => ({
      ...of,
      layers: of.layers.map((layer, index) => {
        const changed: Partial<Record<Target, DenseLinear>> = {};
        for (const target of ALL_TARGETS) {
          const pair = pairs.get(`${index}.${target}`);
          if (pair) changed[target] = added(layer[target], pair, weight);
        }
        return { ...layer, ...changed };
      }),
    }),
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}

function added(linear: DenseLinear, { rank, scale, a, b }: Pair, weight: number): DenseLinear {
  const sum = linear.weight.slice();
  for (let row = 0; row < linear.out; row++)
    for (let r = 0; r < rank; r++) {
      const factor = weight * scale * b[row * rank + r]!;
      for (let i = 0; i < linear.in; i++) sum[row * linear.in + i]! += factor * a[r * linear.in + i]!;
    }
  return { ...linear, weight: sum };
}

function deviation({ weight }: DenseLinear): number {
  return Math.sqrt(weight.reduce((sum, value) => sum + value * value, 0) / weight.length);
}
