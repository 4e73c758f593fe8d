import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { LogitsError, NoTokenAllowedError } from "./errors.js";
import { GREEDY, type SampleRequest, type SamplingParameters } from "./parameters.js";
import { uniformAt } from "./philox.js";
import { likeliest, sample } from "./sample.js";

// The sampler again, slow and obvious: plain arrays, full sorts, one stage after the other.

interface Choice {
  readonly id: number;
  readonly logit: number;
  readonly probability: number;
}

function referenceLogits(logits: Float32Array, { parameters: p, history, promptLength, mask }: SampleRequest): number[] {
  const adjusted = [...logits];
  const newestFirst = [...history].reverse();
  newestFirst.forEach((id, age) => {
    if (newestFirst.indexOf(id) < age) return;
    const sustain = p.penaltySustain === -1 ? Infinity : p.penaltySustain;
    let strength = p.repetitionPenalty;
    if (age >= sustain) strength += (1 - p.repetitionPenalty) * ((age - sustain) / p.penaltyDecay);
    if (age >= sustain + p.penaltyDecay) strength = 1;
    adjusted[id] = adjusted[id]! > 0 ? adjusted[id]! / strength : adjusted[id]! * strength;
  });
  for (const [id, bias] of p.logitBias) adjusted[id]! += bias;
  const generated = [...history].slice(promptLength);
  for (const id of new Set(generated)) {
    const count = generated.filter((other) => other === id).length;
    adjusted[id]! -= count * p.frequencyPenalty + p.presencePenalty;
  }
  return adjusted.map((logit, id) => {
    const allowed = mask === null || ((mask[Math.floor(id / 32)] ?? 0) & (1 << (id % 32))) !== 0;
    return allowed && !p.bannedIds.includes(id) ? logit : -Infinity;
  });
}

function softmax(choices: readonly Omit<Choice, "probability">[], temperature: number): Choice[] {
  const best = choices.reduce((largest, { logit }) => Math.max(largest, logit), -Infinity);
  const weights = choices.map((choice) => Math.exp((choice.logit - best) / temperature));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return choices.map((choice, i) => ({ ...choice, probability: weights[i]! / total }));
}

/** The shortest beginning whose probabilities reach `mass`, renormalised. */
function reaching(choices: readonly Choice[], mass: number): Choice[] {
  const kept: Choice[] = [];
  let sum = 0;
  for (const choice of choices) {
    kept.push(choice);
    sum += choice.probability;
    if (sum >= mass) break;
  }
  return kept.map((choice) => ({ ...choice, probability: choice.probability / sum }));
}

function referenceDistribution(logits: Float32Array, request: SampleRequest): Choice[] {
  const { temperature, topK, topP, minP, typical } = request.parameters;
  const adjusted = referenceLogits(logits, request).map((logit, id) => ({ id, logit }));
  const order = adjusted.filter(({ logit }) => logit > -Infinity).sort((a, b) => b.logit - a.logit || a.id - b.id);
  let choices = softmax(topK > 0 ? order.slice(0, topK) : order, temperature);
  if (topP < 1) choices = reaching(choices, topP);
  const floor = minP * choices[0]!.probability;
  choices = reaching(
    choices.filter((choice) => choice.probability >= floor),
    Infinity,
  );
  if (typical > 0 && typical < 1) {
    const entropy = choices.reduce((sum, { probability: q }) => (q > 0 ? sum - q * Math.log(q) : sum), 0);
    const distance = (choice: Choice) => Math.abs(-Math.log(choice.probability) - entropy);
    choices = reaching(
      [...choices].sort((a, b) => distance(a) - distance(b) || a.id - b.id),
      typical,
    );
  }
  return choices.sort((a, b) => a.id - b.id);
}

function referenceSample(logits: Float32Array, request: SampleRequest): number {
  if (request.parameters.temperature === 0) {
    const adjusted = referenceLogits(logits, request);
    return adjusted.indexOf(Math.max(...adjusted));
  }
  const choices = referenceDistribution(logits, request);
  const uniform = uniformAt(request.seed, request.position);
  let passed = 0;
  for (const { id, probability } of choices) {
    passed += probability;
    if (passed > uniform) return id;
  }
  return choices.findLast(({ probability }) => probability > 0)!.id;
}

const VOCAB = 70;

function request(parameters: Partial<SamplingParameters>, rest: Partial<SampleRequest> = {}): SampleRequest {
  return {
    parameters: { ...GREEDY, ...parameters },
    history: new Int32Array(),
    promptLength: 0,
    seed: 0,
    position: 0,
    mask: null,
    ...rest,
  };
}

const anyId = fc.integer({ min: 0, max: VOCAB - 1 });
// Distinct logits, well apart, so that no stage meets a tie that rounding would decide.
const anyLogits = fc
  .uniqueArray(fc.integer({ min: -400, max: 400 }), { minLength: VOCAB, maxLength: VOCAB })
  .map((values) => Float32Array.from(values, (value) => value / 32));
const oddly = (min: number, max: number) =>
  fc.integer({ min: Math.ceil(min * 997), max: Math.floor(max * 997) }).map((n) => n / 997);
const off = <T>(value: T, arbitrary: fc.Arbitrary<T>) => fc.oneof(fc.constant(value), arbitrary);
const anyParameters: fc.Arbitrary<SamplingParameters> = fc.record({
  temperature: off(0, oddly(0.05, 5)),
  topK: off(0, fc.integer({ min: 1, max: VOCAB + 5 })),
  topP: off(1, oddly(0.01, 0.999)),
  minP: off(0, oddly(0.002, 1)),
  typical: off(0, oddly(0.01, 1)),
  repetitionPenalty: off(1, oddly(0.5, 2)),
  penaltySustain: fc.integer({ min: -1, max: 20 }),
  penaltyDecay: fc.integer({ min: 0, max: 20 }),
  frequencyPenalty: off(0, oddly(-2, 2)),
  presencePenalty: off(0, oddly(-2, 2)),
  logitBias: fc.array(fc.tuple(anyId, oddly(-5, 5)), { maxLength: 4 }),
  bannedIds: fc.array(anyId, { maxLength: 10 }),
});
const anyRequest: fc.Arbitrary<SampleRequest> = fc
  .record({
    parameters: anyParameters,
    history: fc.array(anyId, { maxLength: 60 }).map((ids) => Int32Array.from(ids)),
    promptShare: oddly(0, 1),
    seed: fc.maxSafeNat(),
    position: fc.nat(100_000),
    mask: fc.oneof(
      fc.constant(null),
      // Ids 60 and up are always allowed and only few ids can be banned: something is always left.
      fc.tuple(fc.nat(), fc.nat()).map(([a, b]) => Uint32Array.of(a, b | 0xf0000000, 0xffffffff)),
    ),
  })
  .map(({ promptShare, ...rest }) => ({ ...rest, promptLength: Math.floor(promptShare * rest.history.length) }));

describe("likeliest", () => {
  it("gives the best of what the slow reference would draw from, with their log-probabilities there", () => {
    fc.assert(
      fc.property(anyLogits, anyRequest, fc.integer({ min: 1, max: 8 }), (logits, wanted, count) => {
        fc.pre(nothingOnABorder(logits, wanted));
        const greedy = wanted.parameters.temperature === 0;
        const open = { ...GREEDY, ...wanted.parameters, temperature: 1, topK: 0, topP: 1, minP: 0, typical: 0 };
        const choices = referenceDistribution(logits, greedy ? { ...wanted, parameters: open } : wanted);
        const best = choices.sort((a, b) => b.logit - a.logit || a.id - b.id).slice(0, count);
        const found = likeliest(logits, wanted, count);
        expect(found.map(({ id }) => id)).toEqual(best.map(({ id }) => id));
        found.forEach(({ logprob }, i) => {
          expect(Math.exp(logprob)).toBeCloseTo(best[i]!.probability, 9);
        });
      }),
      { numRuns: 1000 },
    );
  });

  it("puts the lowest id first among equals, and refuses what sample() refuses", () => {
    expect(likeliest(Float32Array.of(1, 3, 3, 3), request({}), 2).map(({ id }) => id)).toEqual([1, 2]);
    expect(() => likeliest(Float32Array.of(1, Number.NaN), request({}), 2)).toThrow(LogitsError);
    expect(() => likeliest(Float32Array.of(1, 2), request({ bannedIds: [0, 1] }), 2)).toThrow(NoTokenAllowedError);
  });
});

describe("sample", () => {
  it("chooses what the slow reference chooses", () => {
    fc.assert(
      fc.property(anyLogits, anyRequest, (logits, wanted) => {
        fc.pre(nothingOnABorder(logits, wanted));
        expect(sample(logits, wanted).id).toBe(referenceSample(logits, wanted));
      }),
      { numRuns: 3000 },
    );
  });

  it("leaves the logits as they are, and gives the log-probability that they say", () => {
    fc.assert(
      fc.property(anyLogits, anyRequest, (logits, wanted) => {
        const before = logits.slice();
        const { id, logprob } = sample(logits, wanted);
        expect(logits).toEqual(before);
        const total = before.reduce((sum, logit) => sum + Math.exp(logit), 0);
        expect(logprob).toBeCloseTo(before[id]! - Math.log(total), 9);
      }),
    );
  });

  it("does not remember: the same request gives the same token whatever came between", () => {
    fc.assert(
      fc.property(anyLogits, anyRequest, anyLogits, anyRequest, (logits, wanted, otherLogits, other) => {
        const first = sample(logits, wanted);
        sample(otherLogits, other);
        sample(Float32Array.of(1, 2, 3), request({ temperature: 1 }));
        expect(sample(logits, wanted)).toEqual(first);
      }),
    );
  });

  it("with top-k 1, or a vanishing top-p, or min-p 1, is greedy", () => {
    fc.assert(
      fc.property(anyLogits, anyRequest, (logits, wanted) => {
        const greedy = sample(logits, { ...wanted, parameters: { ...wanted.parameters, temperature: 0 } }).id;
        const adjusted = referenceLogits(logits, wanted);
        fc.pre(adjusted.filter((logit) => logit > adjusted[greedy]! - 1e-9).length === 1);
        for (const narrow of [{ topK: 1 }, { topP: 1e-12 }, { minP: 1 }]) {
          const parameters = { ...wanted.parameters, temperature: 1, ...narrow };
          expect(sample(logits, { ...wanted, parameters }).id).toBe(greedy);
        }
      }),
    );
  });

  it("greedy takes the lowest id among equals", () => {
    expect(sample(Float32Array.of(1, 3, 2, 3, 3), request({})).id).toBe(1);
    expect(sample(Float32Array.of(1, 3, 2, 3, 3), request({ bannedIds: [1] })).id).toBe(3);
  });

  it("top-k keeps the lowest ids among equals", () => {
    const flat = new Float32Array(10);
    const drawn = new Set(
      Array.from({ length: 200 }, (_, seed) => sample(flat, request({ temperature: 1, topK: 3 }, { seed })).id),
    );
    expect([...drawn].sort()).toEqual([0, 1, 2]);
  });

  it("top-p includes the token that crosses", () => {
    const logits = Float32Array.from([0.5, 0.3, 0.2], Math.log);
    const drawn = (topP: number) =>
      new Set(Array.from({ length: 300 }, (_, seed) => sample(logits, request({ temperature: 1, topP }, { seed })).id)).size;
    expect([0.4, 0.6, 0.79, 0.81].map(drawn)).toEqual([1, 2, 2, 3]);
  });

  it("top-p of a flat distribution counts exactly", () => {
    const flat = new Float32Array(10);
    const drawn = new Set(
      Array.from({ length: 500 }, (_, seed) => sample(flat, request({ temperature: 1, topP: 0.9 }, { seed })).id),
    );
    expect(drawn.size).toBe(9);
  });

  it("a stage that drops nothing changes nothing", () => {
    const logits = Float32Array.from({ length: 37 }, (_, id) => Math.sin(id * 7));
    for (let position = 0; position < 200; position++) {
      const all = sample(logits, request({ temperature: 1 }, { position }));
      expect(sample(logits, request({ temperature: 1, topP: 1 - 1e-12 }, { position }))).toEqual(all);
    }
  });

  it("draws in the proportions of the truncated distribution", () => {
    const logits = Float32Array.from({ length: 12 }, (_, id) => Math.sin(id * 7) * 2);
    const wanted = request({ temperature: 0.8, topK: 8, minP: 0.05 }, { history: Int32Array.of(3, 4), promptLength: 1 });
    const counts = new Map<number, number>();
    const draws = 20_000;
    for (let seed = 0; seed < draws; seed++) {
      const { id } = sample(logits, { ...wanted, seed });
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    const expected = referenceDistribution(logits, wanted);
    expect([...counts.keys()].sort((a, b) => a - b)).toEqual(expected.map(({ id }) => id));
    const chiSquare = expected.reduce(
      (sum, { id, probability }) => sum + (counts.get(id)! - draws * probability) ** 2 / (draws * probability),
      0,
    );
    expect(chiSquare).toBeLessThan(24.4); // 7 degrees of freedom, p = 0.001
  });

  it("gives every id its share when the ids are relabelled", () => {
    // The draw walks the ids in order, so single draws change with the labels; the shares do not.
    const probabilities = [0.1, 0.2, 0.3, 0.4];
    const share = (order: readonly number[]) => {
      const logits = Float32Array.from(order, (i) => Math.log(probabilities[i]!));
      const counts = [0, 0, 0, 0];
      for (let seed = 0; seed < 4000; seed++)
        counts[order[sample(logits, request({ temperature: 1 }, { seed })).id]!]! += 1 / 4000;
      return counts;
    };
    for (const order of [
      [0, 1, 2, 3],
      [3, 1, 0, 2],
      [2, 3, 1, 0],
    ]) {
      share(order).forEach((value, i) => {
        expect(Math.abs(value - probabilities[i]!)).toBeLessThan(0.03);
      });
    }
  });

  it("is not disturbed by extreme temperatures and logits", () => {
    const logits = Float32Array.of(-1e38, 3e38, 1e38, -Infinity);
    expect(sample(logits, request({ temperature: 1e-300 })).id).toBe(1);
    expect(sample(logits, request({ temperature: 1e300, topP: 0.3, minP: 0.1, typical: 0.5 })).id).not.toBe(3);
  });

  it("works on vocabularies of 128k, whatever is narrowed", () => {
    const logits = Float32Array.from({ length: 128_256 }, (_, id) => 8 * Math.sin(id * id) - (id % 97) / 9);
    for (const parameters of [{ topK: 40 }, { topP: 0.9 }, { minP: 0.05 }, { typical: 0.9 }, { topK: 40, topP: 0.65 }, {}]) {
      const wanted = request({ temperature: 1.5, ...parameters }, { seed: 11 });
      const kept = new Set(referenceDistribution(logits, wanted).map(({ id }) => id));
      expect(kept.has(sample(logits, wanted).id)).toBe(true);
    }
  });

  it.each([
    ["NaN", [1, Number.NaN, 2]],
    ["+∞", [1, Infinity, 2]],
    ["nothing above −∞", [-Infinity, -Infinity]],
    ["no logits", []],
  ])("refuses %s with a typed error", (_, logits) => {
    expect(() => sample(Float32Array.from(logits), request({ bannedIds: [1] }))).toThrow(LogitsError);
  });

  it("refuses when mask and banned ids leave nothing, and can go on afterwards", () => {
    const logits = Float32Array.of(1, 2, 3);
    const masked = request({ bannedIds: [1] }, { mask: Uint32Array.of(0b010) });
    expect(() => sample(logits, masked)).toThrow(NoTokenAllowedError);
    expect(() => sample(logits, { ...masked, parameters: { ...masked.parameters, temperature: 1 } })).toThrow(
      /no token of 3 .*mask and 1 banned/,
    );
    expect(sample(logits, request({}, { mask: Uint32Array.of(0b011) })).id).toBe(1);
  });

  it("allows no id past the end of a short mask", () => {
    const logits = Float32Array.from({ length: 40 }, (_, id) => id);
    expect(sample(logits, request({}, { mask: Uint32Array.of(0xffffffff) })).id).toBe(31);
  });
});

/** False where a token sits so near a stage's border that the order of additions decides. */
function nothingOnABorder(logits: Float32Array, wanted: SampleRequest): boolean {
  if (wanted.parameters.temperature === 0) return true;
  const nudged = (factor: number) => {
    const { topP, minP, typical } = wanted.parameters;
    const parameters = {
      ...wanted.parameters,
      topP: topP < 1 ? topP * factor : topP,
      minP: minP * factor,
      typical: typical < 1 ? typical * factor : typical,
    };
    return referenceDistribution(logits, { ...wanted, parameters });
  };
  const [less, more] = [nudged(1 - 1e-9), nudged(1 + 1e-9)];
  if (less.length !== more.length || less.some(({ id }, i) => id !== more[i]!.id)) return false;
  const uniform = uniformAt(wanted.seed, wanted.position);
  let passed = 0;
  return less.every(({ probability }) => {
    passed += probability;
    return Math.abs(passed - uniform) > 1e-9;
  });
}
