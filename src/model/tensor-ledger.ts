// The checkpoint's tensors on one side, the places that the config makes for them on the
// other. Every place takes its tensor through here, checked; what nobody took at the end
// would have changed the model, and is refused.

import type { Dtype, TensorInfo } from "../checkpoint/checkpoint.js";
import { MissingTensorError, TensorDtypeError, TensorShapeError, UnexpectedTensorError } from "./errors.js";

/** Tables that older programs saved and that the config implies anyway. */
const HARMLESS = /(^|\.)rotary_emb\.(inv_freq|cos_cached|sin_cached)$/;

export const FLOAT_DTYPES = { F16: "f16", BF16: "bf16", F32: "f32" } as const;
export type FloatDtype = (typeof FLOAT_DTYPES)[keyof typeof FLOAT_DTYPES];

export class TensorLedger {
  readonly #tensors: ReadonlyMap<string, TensorInfo>;
  readonly #taken = new Set<string>();

  constructor(tensors: ReadonlyMap<string, TensorInfo>) {
    this.#tensors = tensors;
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  /**
   * Takes a tensor.
   *
   * @throws {MissingTensorError}
   */
  take(name: string, hint?: string): TensorInfo {
    const tensor = this.#tensors.get(name);
    if (!tensor) throw new MissingTensorError(name, `tensor ${name} is missing`, { hint: hint ?? this.#missingHint() });
    this.#taken.add(name);
    return tensor;
  }

  /**
   * Takes a floating-point tensor of this shape.
   *
   * @param because whose shape it is, for the message: `config.json`
   */
  takeFloats(name: string, shape: readonly number[], hint?: string): FloatDtype {
    const tensor = this.take(name, hint);
    const dtype = checkFloat(tensor);
    checkShape(tensor, shape);
    return dtype;
  }

  /** Takes a tensor of 32-bit integers of this shape. */
  takeIntegers(name: string, shape: readonly number[]): void {
    const tensor = this.take(name);
    if (tensor.dtype !== "I32") throw new TensorDtypeError(name, tensor.dtype, ["I32"]);
    checkShape(tensor, shape);
  }

  /** @throws {UnexpectedTensorError} when tensors are left that somebody must have meant to be used */
  checkNothingLeft(): void {
    const left = [...this.#tensors.keys()].filter((name) => !this.#taken.has(name) && !HARMLESS.test(name));
    if (left.length > 0) throw new UnexpectedTensorError(left, leftHint(left));
  }

  #missingHint(): string {
    return this.#tensors.size === 0
      ? "The checkpoint has no tensors at all."
      : "The checkpoint is not complete, or config.json is of another model.";
  }
}

/** @throws {TensorDtypeError} */
export function checkFloat(tensor: TensorInfo): FloatDtype {
  const dtype = (FLOAT_DTYPES as Partial<Record<Dtype, FloatDtype>>)[tensor.dtype];
  if (!dtype) throw new TensorDtypeError(tensor.name, tensor.dtype, Object.keys(FLOAT_DTYPES));
  return dtype;
}

/** @throws {TensorShapeError} */
export function checkShape(tensor: TensorInfo, shape: readonly number[], because = "config.json"): void {
  if (tensor.shape.length !== shape.length || tensor.shape.some((size, axis) => size !== shape[axis]))
    throw new TensorShapeError(tensor.name, tensor.shape, shape, because);
}

function leftHint(left: readonly string[]): string {
  if (left.some((name) => /lora_/.test(name))) return "LoRA adapters are separate folders; this checkpoint has one mixed in.";
  if (left.some((name) => name.endsWith(".bias")))
    return "Biases are only used where the architecture, or attention_bias and mlp_bias in config.json, say so.";
  if (left.some((name) => /\.(qweight|qzeros|scales|g_idx|absmax|weight_scale|SCB)/.test(name)))
    return "The quantisation is not one that config.json describes.";
  return "config.json describes another, smaller model than the weights are.";
}
