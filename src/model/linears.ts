// One linear layer: which tensors it has decides whether it is plain or GPTQ; their shapes
// are then held against the config.

import { ModelConfigError, TensorShapeError, UnsupportedModelError } from "./errors.js";
import type { GptqChoice, GptqConfig } from "./quantization.js";
import type { GptqFormat, LinearFormat, LinearSpec } from "./spec.js";
import { checkShape, type TensorLedger } from "./tensor-ledger.js";

/** Reads linears of one checkpoint. */
export class LinearReader {
  readonly #ledger: TensorLedger;
  readonly #gptq: GptqConfig | null;

  /** @param gptq what the config says of quantisation, or `null` */
  constructor(ledger: TensorLedger, gptq: GptqConfig | null) {
    this.#ledger = ledger;
    this.#gptq = gptq;
  }

  /**
   * @param name prefix of its tensors
   * @param bias whether the architecture gives it one. A plain linear has exactly that; a GPTQ
   *   linear may have more, as quantisers write (mostly zero) biases for every linear
   * @throws {MissingTensorError | TensorShapeError | TensorDtypeError}
   * @throws {UnsupportedModelError} sizes that GPTQ cannot pack
   * @throws {ModelConfigError} GPTQ tensors that neither a config nor their shapes explain
   */
  read(name: string, inputs: number, outputs: number, bias: boolean, hint?: string): LinearSpec {
    const quantised = this.#ledger.has(`${name}.qweight`);
    const format: LinearFormat = quantised
      ? this.#readGptq(name, inputs, outputs)
      : { kind: "plain", dtype: this.#ledger.takeFloats(`${name}.weight`, [outputs, inputs], hint) };
    const hasBias = bias || (quantised && this.#ledger.has(`${name}.bias`));
    if (hasBias) this.#ledger.takeFloats(`${name}.bias`, [outputs]);
    return { name, in: inputs, out: outputs, bias: hasBias, format };
  }

  #readGptq(name: string, inputs: number, outputs: number): GptqFormat {
    const { bits, groupSize } = this.#choose(name, inputs, this.#gptq?.choices ?? [this.#shown(name, inputs)]);
    checkPackable(name, inputs, outputs, bits);
    const groups = Math.ceil(inputs / groupSize);
    this.#ledger.takeIntegers(`${name}.qweight`, [(inputs * bits) / 32, outputs]);
    this.#ledger.takeIntegers(`${name}.qzeros`, [groups, (outputs * bits) / 32]);
    const scaleDtype = this.#ledger.takeFloats(`${name}.scales`, [groups, outputs]);
    // Act-order without its permutation: no telling which scale belongs to which row.
    const gIdx = this.#ledger.has(`${name}.g_idx`) || ((this.#gptq?.descAct ?? false) && groups > 1);
    if (gIdx) this.#ledger.takeIntegers(`${name}.g_idx`, [inputs]);
    return { kind: "gptq", bits, groupSize, zeros: this.#gptq?.zeros ?? "v1", gIdx, scaleDtype };
  }

  /**
   * What the shapes alone say: checkpoints from GPTQ's first months have no config for it. Their
   * zeros are those of the first format, as ExLlama took them to be.
   */
  #shown(name: string, inputs: number): GptqChoice {
    const bits = ((this.#ledger.take(`${name}.qweight`).shape[0] ?? 0) * 32) / inputs;
    const groupSize = inputs / (this.#ledger.take(`${name}.scales`).shape[0] ?? 0);
    if ((bits === 2 || bits === 3 || bits === 4 || bits === 8) && Number.isInteger(groupSize)) return { bits, groupSize };
    throw new ModelConfigError(`${name} is quantised, but nothing says how, and its shapes do not show it`, {
      hint: "config.json needs a quantization_config, or the folder a quantize_config.json.",
      details: { tensor: `${name}.qweight` },
    });
  }

  /** The choice that the shapes of qweight and scales show; mostly there is only one. */
  #choose(name: string, inputs: number, choices: readonly GptqChoice[]): GptqChoice {
    const qweight = this.#ledger.take(`${name}.qweight`);
    const scales = this.#ledger.take(`${name}.scales`);
    const fitting = choices
      .map(({ bits, groupSize }) => ({ bits, groupSize: groupSize === -1 || groupSize > inputs ? inputs : groupSize }))
      .filter(
        ({ bits, groupSize }) => qweight.shape[0] === (inputs * bits) / 32 && scales.shape[0] === Math.ceil(inputs / groupSize),
      );
    const first = fitting[0];
    if (!first) {
      const { bits, groupSize } = choices[0]!;
      checkPackable(name, inputs, 32, bits);
      const groups = groupSize === -1 ? 1 : Math.ceil(inputs / groupSize);
      const said = `${bits}-bit GPTQ with groups of ${groupSize}`;
      checkShape(qweight, [(inputs * bits) / 32, qweight.shape[1] ?? 0], said);
      throw new TensorShapeError(scales.name, scales.shape, [groups, scales.shape[1] ?? 0], said);
    }
    if (fitting.some(({ groupSize }) => groupSize !== first.groupSize))
      throw new UnsupportedModelError(
        `${name} could have groups of ${fitting.map(({ groupSize }) => groupSize).join(" or ")} rows`,
        {
          hint: "The config's dynamic rules name several group sizes, and its shapes fit more than one.",
        },
      );
    return first;
  }
}

/** Whole 32-bit words must hold a column of weights, and a row of zeros. */
function checkPackable(name: string, inputs: number, outputs: number, bits: GptqChoice["bits"]): void {
  const multiple = bits === 3 ? 32 : 32 / bits;
  if (inputs % multiple !== 0 || outputs % multiple !== 0)
    throw new UnsupportedModelError(
      `${name} goes from ${inputs} to ${outputs}, which ${bits}-bit GPTQ cannot pack: multiples of ${multiple} are needed`,
    );
}
