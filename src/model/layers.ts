// The layers: each linear and each norm finds its tensors.

import type { Architecture } from "./architectures/architecture.js";
import type { ConfigValues } from "./config-values.js";
import { readExperts } from "./experts.js";
import type { LinearReader } from "./linears.js";
import type { Sizes } from "./sizes.js";
import type { AttentionSpec, GatedMlpSpec, LayerSpec, NormSpec } from "./spec.js";
import type { TensorLedger } from "./tensor-ledger.js";

/** Reads the layers of one checkpoint; errors as `readModel`. */
export class LayerReader {
  readonly #config: ConfigValues;
  readonly #architecture: Architecture;
  readonly #sizes: Sizes;
  readonly #ledger: TensorLedger;
  readonly #linears: LinearReader;
  /** Biases of q, k and v, of o, and of the MLP. */
  readonly #bias: { readonly qkv: boolean; readonly o: boolean; readonly mlp: boolean };

  constructor(config: ConfigValues, architecture: Architecture, sizes: Sizes, ledger: TensorLedger, linears: LinearReader) {
    this.#config = config;
    this.#architecture = architecture;
    this.#sizes = sizes;
    this.#ledger = ledger;
    this.#linears = linears;
    const all = architecture.attentionBias === "config" && config.boolean("attention_bias", false);
    this.#bias = {
      qkv: all || architecture.attentionBias === "qkv",
      o: all,
      mlp: architecture.mlpBias === "config" && config.boolean("mlp_bias", false),
    };
  }

  /** @param window attention window of this layer, `null` = unlimited */
  read(index: number, window: number | null): LayerSpec {
    const name = `model.layers.${index}`;
    const { experts } = this.#architecture;
    return {
      index,
      inputNorm: this.norm(`${name}.input_layernorm.weight`),
      attention: this.#attention(`${name}.self_attn`, window),
      postAttentionNorm: this.norm(`${name}.post_attention_layernorm.weight`),
      mlp: experts?.isSparse(this.#config, index)
        ? readExperts(name, experts, this.#config, this.#sizes.hidden, this.#linears)
        : this.#mlp(`${name}.mlp`),
    };
  }

  /** @param size default: the hidden size */
  norm(tensor: string, size = this.#sizes.hidden): NormSpec {
    this.#ledger.takeFloats(tensor, [size]);
    return { tensor, size, eps: this.#sizes.epsilon };
  }

  #attention(name: string, window: number | null): AttentionSpec {
    const { heads, kvHeads, headDim, hidden } = this.#sizes;
    const { qkv, o } = this.#bias;
    const headNorm = (which: string) =>
      this.#architecture.headNorms ? this.norm(`${name}.${which}_norm.weight`, headDim) : null;
    return {
      heads,
      kvHeads,
      headDim,
      window,
      q: this.#linears.read(`${name}.q_proj`, hidden, heads * headDim, qkv),
      k: this.#linears.read(`${name}.k_proj`, hidden, kvHeads * headDim, qkv),
      v: this.#linears.read(`${name}.v_proj`, hidden, kvHeads * headDim, qkv),
      o: this.#linears.read(`${name}.o_proj`, heads * headDim, hidden, o),
      qNorm: headNorm("q"),
      kNorm: headNorm("k"),
    };
  }

  #mlp(name: string): GatedMlpSpec {
    const { hidden, intermediate } = this.#sizes;
    const { mlp } = this.#bias;
    return {
      kind: "gated",
      gate: this.#linears.read(`${name}.gate_proj`, hidden, intermediate, mlp),
      up: this.#linears.read(`${name}.up_proj`, hidden, intermediate, mlp),
      down: this.#linears.read(`${name}.down_proj`, intermediate, hidden, mlp),
    };
  }
}
