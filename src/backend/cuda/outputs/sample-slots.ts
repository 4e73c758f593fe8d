// How the card chooses the tokens of a round of outputs: one slot per row, and the changes that
// requests make to single logits, worked out here with the host sampler's own code. Requests that
// the card cannot serve as exactly as the host are left to the host: locally typical sampling,
// parameters beyond what fp32 carries well, more changes than there is room for, and rows that
// somebody wants to see anyway.

import { visitAdjustments } from "../../../sampling/adjustments.js";
import type { SampleRequest } from "../../../sampling/parameters.js";
import { penaltyReach, strengthAt } from "../../../sampling/penalties.js";
import { uniformAt } from "../../../sampling/philox.js";
import type { OutputRequest } from "../../backend.js";
import { type ParameterValues, writeParametersAt } from "../launch/parameter-layout.js";
import { ADJUSTMENT, SAMPLE_SLOT } from "./output-layouts.js";

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
  newestFactor: 0,
};

export interface WrittenSlots {
  /** Of the buffer, from its beginning, that the card has to see. */
  readonly bytes: number;
  /** Per request, whether the card's choice is its answer; false for idle rows. */
  readonly chosen: readonly boolean[];
}

export class SampleSlots {
  readonly #vocabSize: number;
  readonly #view: DataView;
  /** Of the pool: an adjustment is three words, ids are every sixth half of one. */
  readonly #doubles: Float64Array;
  readonly #ints: Int32Array;
  readonly #words: Uint32Array;
  readonly #poolAt: number;
  #used = 0;

  /**
   * @param buffer slots of a round, then the pool
   * @param poolAt byte at which the pool begins, a multiple of 8
   */
  constructor(vocabSize: number, buffer: ArrayBuffer, poolAt: number) {
    this.#vocabSize = vocabSize;
    this.#view = new DataView(buffer);
    this.#doubles = new Float64Array(buffer, poolAt, Math.floor((buffer.byteLength - poolAt) / 8));
    this.#ints = new Int32Array(buffer, poolAt, this.#doubles.length * 2);
    this.#words = new Uint32Array(buffer, poolAt, this.#doubles.length * 2);
    this.#poolAt = poolAt;
  }

  /**
   * @param requests `null`: an idle row
   * @param rows of the round; those behind the requests are idle
   * @param newer the newest id of every history is not in it yet: the card has chosen it and knows it
   */
  write(requests: readonly (OutputRequest | null)[], rows: number, newer = false): WrittenSlots {
    this.#used = 0;
    const chosen: boolean[] = [];
    for (let row = 0; row < rows; row++) {
      const request = requests[row];
      const slot = request?.sample && !request.logits && request.topLogprobs === 0 ? this.#slotOf(request.sample, newer) : null;
      writeParametersAt(this.#view, row * SAMPLE_SLOT.bytes, SAMPLE_SLOT, slot ?? IDLE);
      if (row < requests.length) chosen.push(slot !== null || (request?.sample ? isPlainGreedy(request.sample) : false));
    }
    return { bytes: this.#poolAt + this.#used, chosen };
  }

  /** How the card serves a request, or `null`: the host does. */
  #slotOf(request: SampleRequest, newer: boolean): Slot | null {
    const { temperature, topK, topP, minP, typical } = request.parameters;
    if (isPlainGreedy(request)) return IDLE; // the largest logit is a fact of every row
    if (temperature !== 0 && !(temperature >= TEMPERATURES[0] && temperature <= TEMPERATURES[1])) return null;
    if (temperature !== 0 && typical > 0 && typical < 1) return null;
    const placed = this.#place(request, newer);
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
    request: SampleRequest,
    newer: boolean,
  ): Pick<Slot, "adjustmentsAt" | "adjustments" | "maskAt" | "maskWords" | "newestFactor"> | null {
    const { mask, parameters, history } = request;
    const adjustmentsAt = this.#used;
    const room = Math.floor((this.#doubles.byteLength - adjustmentsAt) / ADJUSTMENT.bytes);
    let adjustments = 0;
    let exact = true;
    visitAdjustments(
      request,
      this.#vocabSize,
      (id, factor, add) => {
        if (!(factor >= 1 / LARGEST_FACTOR && factor <= LARGEST_FACTOR)) exact = false;
        if (Math.abs(add) > LARGEST_ADDEND && add !== -Infinity) exact = false;
        if (adjustments < room) this.#adjust(adjustmentsAt + adjustments * ADJUSTMENT.bytes, id, factor, add);
        adjustments++;
      },
      newer ? 1 : 0,
    );
    const maskAt = adjustmentsAt + adjustments * ADJUSTMENT.bytes;
    const words = mask === null ? 0 : Math.min(mask.length, Math.ceil(this.#vocabSize / 32));
    const end = maskAt + Math.ceil(words / 2) * 8;
    if (!exact || end > this.#doubles.byteLength) return null;
    this.#used = end;
    if (mask) this.#words.set(mask.subarray(0, words), maskAt / 4);
    const newest = newer && penaltyReach(parameters, history.length + 1) > 0 ? strengthAt(0, parameters) : 0;
    return { adjustmentsAt, adjustments, maskAt, maskWords: mask === null ? -1 : words, newestFactor: newest };
  }

  /** ADJUSTMENT, written by hand: a step may have tens of thousands. */
  #adjust(at: number, id: number, factor: number, add: number): void {
    this.#doubles[at / 8] = factor;
    this.#doubles[at / 8 + 1] = add;
    this.#ints[at / 4 + 4] = id;
    this.#ints[at / 4 + 5] = 0;
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
