// Tensor names of an adapter → the linears of a model. Every tensor must be understood: a pair of
// factors of a known linear with the shapes that this model has, or a bias, whose contents are
// judged later. Anything else would have changed the model, and is refused.

import type { TensorInfo } from "../checkpoint/checkpoint.js";
import { isPlainDtype } from "../checkpoint/plain-values.js";
import { type AdapterLayer, type AdapterTarget, targetLinear } from "../model/adapter.js";
import type { ModelSpec } from "../model/spec.js";
import { type AdapterConfig, MOST_RANK } from "./config.js";
import { AdapterConfigError, AdapterTensorError, UnsupportedAdapterError } from "./errors.js";

/** Names of the modules as checkpoints have them. */
const MODULES: Readonly<Record<string, AdapterTarget>> = {
  q_proj: "q",
  k_proj: "k",
  v_proj: "v",
  o_proj: "o",
  gate_proj: "gate",
  up_proj: "up",
  down_proj: "down",
};

/** A linear's factors. */
export interface FactorPair {
  /** [rank, in] */
  readonly a: TensorInfo;
  /** [out, rank] */
  readonly b: TensorInfo;
  readonly rank: number;
  readonly scale: number;
}

export interface AdapterTensors {
  readonly layers: readonly AdapterLayer[];
  pair(layer: number, target: AdapterTarget): FactorPair | undefined;
  /** Must hold zeros only. */
  readonly biases: readonly TensorInfo[];
}

/** `base_model.model.` of PEFT, the model's own prefix, then layer, module and factor. */
const NAME =
  /^(?:base_model\.model\.)?(model\.layers\.(\d{1,5})\.(?:self_attn|mlp)\.(\w{1,32}))\.(?:base_layer\.)?(lora_([AB])\.(?:default\.)?(?:weight|bias)|bias)$/;

/** @throws {AdapterTensorError | UnsupportedAdapterError | AdapterConfigError} naming the tensor */
export function readAdapterTensors(
  tensors: ReadonlyMap<string, TensorInfo>,
  config: AdapterConfig,
  spec: ModelSpec,
  where: string,
): AdapterTensors {
  const factors = new Map<string, { module: string; a?: TensorInfo; b?: TensorInfo }>();
  const biases: TensorInfo[] = [];
  for (const tensor of tensors.values()) {
    const match = NAME.exec(tensor.name);
    const target = match && Object.hasOwn(MODULES, match[3]!) ? MODULES[match[3]!] : undefined;
    if (!match || !target) throw unexpected(tensor, where);
    if (!isPlainDtype(tensor.dtype))
      throw new UnsupportedAdapterError(`${where}: ${tensor.name} is ${tensor.dtype}; F16, BF16 and F32 are read`, {
        details: { tensor: tensor.name },
      });
    if (tensor.name.endsWith("bias")) {
      biases.push(tensor);
      continue;
    }
    const layer = Number(match[2]);
    if (layer >= spec.layers.length)
      throw new AdapterTensorError(`${where}: ${tensor.name} is for layer ${layer}; this model has ${spec.layers.length}`, {
        hint: "The adapter was made for another model.",
        details: { tensor: tensor.name },
      });
    const key = `${layer}.${target}`;
    const known = factors.get(key) ?? { module: match[1]! };
    const side = match[5] === "A" ? "a" : "b";
    if (known[side]) throw new AdapterTensorError(`${where}: ${tensor.name} and ${known[side].name} are the same factor twice`);
    factors.set(key, { ...known, [side]: tensor });
  }
  if (factors.size === 0) throw new AdapterTensorError(`${where} holds no LoRA factors`);
  const pairs = new Map<string, FactorPair>();
  for (const [key, { module, a, b }] of factors) {
    if (!a || !b) throw new AdapterTensorError(`${where}: ${(a ?? b)!.name} has no ${a ? "lora_B" : "lora_A"} beside it`);
    const [layer, target] = key.split(".") as [string, AdapterTarget];
    const linear = targetLinear(spec.layers[Number(layer)]!, target);
    if (!linear) throw new UnsupportedAdapterError(`${where}: ${module} belongs to a mixture of experts`);
    const rank = a.shape[0] ?? 0;
    checkPair(where, module, a, b, rank, linear);
    if (rank !== config.rank(module))
      throw new AdapterConfigError(`${where}: ${module} has rank ${rank}, adapter_config.json says ${config.rank(module)}`, {
        details: { tensor: a.name },
      });
    pairs.set(key, { a, b, rank, scale: config.scale(module, rank) });
  }
  checkTargets(config, factors.values(), where);
  return {
    layers: spec.layers.map(({ index }) =>
      Object.fromEntries(
        Object.values(MODULES).flatMap((target) => {
          const pair = pairs.get(`${index}.${target}`);
          return pair ? [[target, pair.rank]] : [];
        }),
      ),
    ),
    pair: (layer, target) => pairs.get(`${layer}.${target}`),
    biases,
  };
}

function checkPair(
  where: string,
  module: string,
  a: TensorInfo,
  b: TensorInfo,
  rank: number,
  linear: { readonly in: number; readonly out: number },
): void {
  const shapes = `lora_A ${show(a.shape)} and lora_B ${show(b.shape)}`;
  const fits = a.shape.length === 2 && b.shape.length === 2 && a.shape[1] === linear.in && b.shape[0] === linear.out;
  if (!fits || b.shape[1] !== rank)
    throw new AdapterTensorError(
      `${where}: ${module} has ${shapes}; this model needs [rank, ${linear.in}] and [${linear.out}, rank]`,
      { hint: "The adapter was made for another model.", details: { tensor: a.name } },
    );
  if (rank < 1 || rank > MOST_RANK)
    throw new UnsupportedAdapterError(`${where}: ${module} has rank ${rank}; ranks from 1 to ${MOST_RANK} are applied`, {
      details: { tensor: a.name },
    });
}

/** What the config says was trained must be there: half an adapter is another one. */
function checkTargets(config: AdapterConfig, found: Iterable<{ module: string }>, where: string): void {
  if (config.targets === null) return;
  const modules = [...found].map(({ module }) => module);
  for (const target of config.targets) {
    const name = target.slice(target.lastIndexOf(".") + 1);
    if (!Object.hasOwn(MODULES, name))
      throw new UnsupportedAdapterError(`${where}: the adapter changes ${target}, which is not applied here`, {
        details: { module: target },
      });
    if (!modules.some((module) => module === target || module.endsWith(`.${target}`)))
      throw new AdapterTensorError(`${where}: adapter_config.json names ${target}, but there are no tensors for it`, {
        hint: "The file is not complete; get it again.",
        details: { module: target },
      });
  }
}

function unexpected(tensor: TensorInfo, where: string): Error {
  const { name } = tensor;
  const details = { tensor: name };
  if (/lora_magnitude_vector/.test(name))
    return new UnsupportedAdapterError(`${where}: ${name} belongs to DoRA, which is not applied here`, { details });
  if (/lora_embedding_|embed_tokens|lm_head/.test(name))
    return new UnsupportedAdapterError(`${where}: ${name} changes the embeddings or the head, which is not applied here`, {
      details,
    });
  return new UnsupportedAdapterError(`${where}: nothing here knows what ${name} is for`, { details });
}

function show(shape: readonly number[]): string {
  return `[${shape.join(", ")}]`;
}
