// How the card chooses the tokens of a round of outputs: one slot per row, and the changes that
// requests make to single logits, worked out here with the host sampler's own code. Requests that
// the card cannot serve as exactly as the host are left to the host: locally typical sampling,
// parameters beyond what fp32 carries well, more changes than there is room for, and rows that
// somebody wants to see anyway.

import { type Adjustment, collectAdjustments } from "../../sampling/adjustments.js";
import type { SampleRequest } from "../../sampling/parameters.js";
import { uniformAt } from "../../sampling/philox.js";
import type { OutputRequest } from "../backend.js";
import { ADJUSTMENT, type ParameterValues, SAMPLE_SLOT, writeParameters } from "./kernel-parameters.js";

const [NOTHING, GREEDY, DRAW] = [0, 1, 2];

/** Temperatures whose reciprocal and weights fp32 holds. */
const TEMPERATURES = [1e-3, 1e3] as const;
/** Adjusted logits are fp32: larger shifts would round differences away that the host still sees. */
const LARGEST_ADDEND = 1024;
const LARGEST_FACTOR = 1024;

type Slot = ParameterValues<(typeof SAMPLE_SLOT)["fields"]>;

const IDLE: Slot = {
  uniform: 0,
  minDistance: -Infinity,
  topP: 1,
  rate: 0,
  rateRest: 0,
  mode: NOTHING as number,
  topK: 0,
  adjustmentsAt: 0,
  adjustments: 0,
  maskAt: 0,
  maskWords: -1,
};
const idleSlot = writeParameters(SAMPLE_SLOT, IDLE);

export interface WrittenSlots {
  /** Of the buffer, from its beginning, that the card has to see. */
  readonly bytes: number;
  /** Per request, whether the card's choice is its answer. */
  readonly chosen: readonly boolean[];
}

export class SampleSlots {
  readonly #vocabSize: number;
  readonly #bytes: Uint8Array;
  readonly #poolAt: number;
  #used = 0;

  /**
   * @param buffer slots of a round, then the pool
   * @param poolAt byte at which the pool begins
   */
  constructor(vocabSize: number, buffer: ArrayBuffer, poolAt: number) {
    this.#vocabSize = vocabSize;
    this.#bytes = new Uint8Array(buffer);
    this.#poolAt = poolAt;
  }

  /** @param rows of the round; those behind the requests are idle */
  write(requests: readonly OutputRequest[], rows: number): WrittenSlots {
    this.#used = 0;
    const chosen: boolean[] = [];
    for (let row = 0; row < rows; row++) {
      const request = requests[row];
      const slot = request?.sample && !request.logits && request.topLogprobs === 0 ? this.#slotOf(request.sample) : null;
      this.#bytes.set(slot ? writeParameters(SAMPLE_SLOT, slot) : idleSlot, row * SAMPLE_SLOT.bytes);
      if (request) chosen.push(slot !== null || (request.sample !== null && isPlainGreedy(request.sample)));
    }
    return { bytes: this.#poolAt + this.#used, chosen };
  }

  /** How the card serves a request, or `null`: the host does. */
  #slotOf(request: SampleRequest): Slot | null {
    const { temperature, topK, topP, minP, typical } = request.parameters;
    if (isPlainGreedy(request)) return IDLE; // the largest logit is a fact of every row
    if (temperature !== 0 && !(temperature >= TEMPERATURES[0] && temperature <= TEMPERATURES[1])) return null;
    if (temperature !== 0 && typical > 0 && typical < 1) return null;
    const changes = collectAdjustments(request, this.#vocabSize);
    const placed = this.#place(changes, request.mask);
    if (!placed) return null;
    if (temperature === 0) return { ...IDLE, ...placed, mode: GREEDY as number };
    const rate = Math.LOG2E / temperature;
    return {
      ...placed,
      mode: DRAW as number,
      uniform: uniformAt(request.seed, request.position),
      minDistance: minP > 0 ? temperature * Math.log(minP) : -Infinity,
      topP,
      topK: topK >= this.#vocabSize ? 0 : topK,
      rate: Math.fround(rate),
      rateRest: rate - Math.fround(rate),
    };
  }

  /** Puts changes and mask into the pool; `null` where they do not go with the card. */
  #place(
    changes: ReadonlyMap<number, Adjustment>,
    mask: Uint32Array | null,
  ): Pick<Slot, "adjustmentsAt" | "adjustments" | "maskAt" | "maskWords"> | null {
    for (const { factor, add } of changes.values()) {
      if (!(factor >= 1 / LARGEST_FACTOR && factor <= LARGEST_FACTOR)) return null;
      if (Math.abs(add) > LARGEST_ADDEND && add !== -Infinity) return null;
    }
    const adjustmentsAt = this.#used;
    const maskAt = adjustmentsAt + changes.size * ADJUSTMENT.bytes;
    const words = mask === null ? 0 : Math.min(mask.length, Math.ceil(this.#vocabSize / 32));
    const end = maskAt + Math.ceil(words / 2) * 8;
    if (this.#poolAt + end > this.#bytes.length) return null;
    this.#used = end;
    let at = this.#poolAt + adjustmentsAt;
    for (const [id, { factor, add }] of changes) {
      this.#bytes.set(writeParameters(ADJUSTMENT, { factor, add, id, plain: 0 }), at);
      at += ADJUSTMENT.bytes;
    }
    if (mask)
      new Uint32Array(this.#bytes.buffer, this.#bytes.byteOffset + this.#poolAt + maskAt, words).set(mask.subarray(0, words));
    return { adjustmentsAt, adjustments: changes.size, maskAt, maskWords: mask === null ? -1 : words };
  }
}

/** The largest logit, whatever came before. */
function isPlainGreedy({ parameters, mask }: SampleRequest): boolean {
  return (
    parameters.temperature === 0 &&
    mask === null &&
    parameters.repetitionPenalty === 1 &&
    parameters.frequencyPenalty === 0 &&
    parameters.presencePenalty === 0 &&
    parameters.logitBias.length === 0 &&
    parameters.bannedIds.length === 0
  );
}
