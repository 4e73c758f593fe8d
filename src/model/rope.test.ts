import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type ReferenceRope, rotationOf } from "../../test/reference/rope.js";
import { ropeFrequencies } from "./rope.js";
import type { RopeSpec } from "./spec.js";

const llama3 = { kind: "llama3", theta: 500_000, factor: 8, lowFreqFactor: 1, highFreqFactor: 4 } as const;
const yarn = { kind: "yarn", betaFast: 32, betaSlow: 1, attentionFactor: 1.25, truncate: true } as const;

describe("ropeFrequencies", () => {
  // The formulas of transformers' modeling_rope_utils, run in f32 by NumPy; pairs 0, 1, 3, 7, the middle one and the last.
  it.each<[string, RopeSpec, number, number, number[]]>([
    [
      "plain",
      { kind: "default", theta: 10_000 },
      64,
      1,
      [1, 0.7498942017555237, 0.4216965138912201, 0.1333521455526352, 0.009999999776482582, 0.0001333521504420787],
    ],
    [
      "linear",
      { kind: "linear", theta: 10_000, factor: 4 },
      128,
      1,
      [0.25, 0.21649108827114105, 0.16234540939331055, 0.09129352867603302, 0.0024999999441206455, 2.886955189751461e-5],
    ],
    [
      "dynamic, beyond the original context",
      { kind: "dynamic", theta: 10_000, factor: 2, originalContext: 512 },
      64,
      1000,
      [1, 0.7245256304740906, 0.3803306221961975, 0.1048036590218544, 0.005765811074525118, 4.58846079709474e-5],
    ],
    [
      "llama3, a tiny model",
      { ...llama3, originalContext: 64 },
      32,
      1,
      [1, 0.44036662578582764, 0.010674637742340565, 0.00040143076330423355, 0.00017677668074611574, 5.677088097399974e-7],
    ],
    [
      "llama3, Llama 3.1",
      { ...llama3, originalContext: 8192 },
      128,
      1,
      [1, 0.8146172165870667, 0.5405809879302979, 0.2380538433790207, 0.0005248460220173001, 3.068925877869333e-7],
    ],
    [
      "yarn",
      { ...yarn, theta: 1e6, factor: 4, originalContext: 32768 },
      128,
      1,
      [1, 0.8058422207832336, 0.5232990980148315, 0.22067339718341827, 0.0006029411451891065, 3.102344408034696e-7],
    ],
    [
      "yarn, ends not truncated",
      { ...yarn, truncate: false, theta: 10_000, factor: 8, originalContext: 64 },
      32,
      1,
      [1, 0.4403055012226105, 0.062054552137851715, 0.002222849288955331, 0.0012499999720603228, 2.2228492525755428e-5],
    ],
  ])("%s", (_, rope, headDim, length, expected) => {
    const { inverseFrequencies } = ropeFrequencies(rope, headDim, length);
    const pairs = [0, 1, 3, 7, headDim / 4, headDim / 2 - 1];
    expect(inverseFrequencies).toHaveLength(headDim / 2);
    // Powers may differ in the last bit of f32 between two libraries.
    pairs.forEach((pair, at) => {
      expect(Math.abs(inverseFrequencies[pair]! / expected[at]! - 1)).toBeLessThan(5e-7);
    });
  });

  it("agrees with the f64 reference, for any parameters", () => {
    const theta = fc.double({ min: 1000, max: 1e7, noNaN: true });
    const factor = fc.double({ min: 1, max: 32, noNaN: true });
    const context = fc.integer({ min: 32, max: 1 << 17 });
    const pair = fc.oneof(
      theta.map((theta): [RopeSpec, ReferenceRope] => [
        { kind: "default", theta },
        { type: "default", theta },
      ]),
      fc.tuple(theta, factor).map(([theta, factor]): [RopeSpec, ReferenceRope] => [
        { kind: "linear", theta, factor },
        { type: "linear", theta, factor },
      ]),
      fc.tuple(theta, factor).map(([theta, alpha]): [RopeSpec, ReferenceRope] => [
        { kind: "ntk", theta, alpha },
        { type: "ntk", theta, alpha },
      ]),
      fc.tuple(theta, factor, context).map(([theta, factor, context]): [RopeSpec, ReferenceRope] => [
        { kind: "dynamic", theta, factor, originalContext: context },
        { type: "dynamic", theta, factor, maxPositions: context },
      ]),
      fc.tuple(theta, factor, context).map(([theta, factor, context]): [RopeSpec, ReferenceRope] => [
        { ...llama3, theta, factor, originalContext: context },
        { type: "llama3", theta, factor, lowFreqFactor: 1, highFreqFactor: 4, originalPositions: context },
      ]),
      fc.tuple(theta, factor, context, fc.boolean()).map(([theta, factor, context, truncate]): [RopeSpec, ReferenceRope] => [
        { ...yarn, theta, factor, originalContext: context, truncate },
        {
          type: "yarn",
          theta,
          factor,
          originalPositions: context,
          betaFast: 32,
          betaSlow: 1,
          attentionFactor: 1.25,
          mscale: null,
          mscaleAllDim: null,
          truncate,
        },
      ]),
    );
    fc.assert(
      fc.property(pair, fc.integer({ min: 4, max: 128 }), fc.nat(200_000), ([rope, reference], half, length) => {
        const ours = ropeFrequencies(rope, half * 2, length);
        const theirs = rotationOf(reference, half * 2, length);
        expect(ours.attentionFactor).toBe(theirs.amplitude);
        // An exponent in f32 is off by up to 2⁻²⁵, a power by that times ln(theta) = 5e-7 here (dynamic: twice that);
        // blending two frequencies 32 times apart (llama3, yarn) can make ten times that of it.
        ours.inverseFrequencies.forEach((frequency, i) => {
          expect(Math.abs(frequency / theirs.frequencies[i]! - 1)).toBeLessThan(1e-5);
        });
      }),
      { numRuns: 500 },
    );
  });

  it("scales dynamically only beyond the original context", () => {
    const rope: RopeSpec = { kind: "dynamic", theta: 10_000, factor: 4, originalContext: 512 };
    const at = (length: number) => [...ropeFrequencies(rope, 64, length).inverseFrequencies];
    const plain = [...ropeFrequencies({ kind: "default", theta: 10_000 }, 64, 1).inverseFrequencies];
    expect(at(1)).toEqual(plain);
    expect(at(512)).toEqual(plain);
    expect(at(513)[31]).toBeLessThan(plain[31]!);
    expect(at(1024)[31]).toBeLessThan(at(513)[31]!);
  });
});
