import { describe, expect, it } from "vitest";
import { UsageError } from "../errors.js";
import { SamplingParameterError } from "./errors.js";
import { GREEDY, type SamplingParameters } from "./parameters.js";
import { validateSampling } from "./validate.js";

describe("validateSampling", () => {
  it("completes what is not given", () => {
    expect(validateSampling({})).toEqual(GREEDY);
    expect(validateSampling({ topK: 40, minP: undefined })).toEqual({ ...GREEDY, topK: 40 });
    expect(validateSampling({ topK: 40 }, { ...GREEDY, topP: 0.5 })).toEqual({ ...GREEDY, topK: 40, topP: 0.5 });
  });

  it.each<Partial<SamplingParameters>>([
    { temperature: 0 },
    { temperature: 100 },
    { topP: 1 },
    { minP: 1 },
    { typical: 1 },
    { penaltySustain: -1 },
    { penaltyDecay: 0 },
    { frequencyPenalty: -2 },
    { logitBias: [[0, -100]] },
    { bannedIds: [] },
  ])("takes %j", (parameters) => {
    expect(validateSampling(parameters)).toEqual({ ...GREEDY, ...parameters });
  });

  it.each([
    { temperature: -0.1 },
    { temperature: Number.NaN },
    { temperature: Infinity },
    { temperature: "1" },
    { temperature: null },
    { topK: -1 },
    { topK: 1.5 },
    { topP: 0 },
    { topP: 1.01 },
    { topP: Number.NaN },
    { minP: -0.1 },
    { minP: 2 },
    { typical: 1.1 },
    { repetitionPenalty: 0 },
    { repetitionPenalty: -1 },
    { penaltySustain: -2 },
    { penaltyDecay: -1 },
    { presencePenalty: Infinity },
    { logitBias: [[1]] },
    { logitBias: [[-1, 0]] },
    { logitBias: [[1, Number.NaN]] },
    { logitBias: { 1: 2 } },
    { bannedIds: [1.5] },
    { bannedIds: 3 },
  ])("refuses %j, naming the parameter and what it takes", (parameters) => {
    const name = Object.keys(parameters)[0]!;
    const refusal = expect(() => validateSampling(parameters as unknown as Partial<SamplingParameters>));
    refusal.toThrow(SamplingParameterError);
    refusal.toThrow(UsageError);
    refusal.toThrow(new RegExp(`^${name} cannot be .*: expected `));
  });

  it.each([
    ["top_p", "topP"],
    ["temprature", "temperature"],
    ["repetition_penalty", "repetitionPenalty"],
    ["typicalP", "typical"],
  ])("knows what %s was meant to be", (written, meant) => {
    let hint: string | undefined;
    try {
      validateSampling({ [written]: 1 });
    } catch (error) {
      hint = (error as SamplingParameterError).hint;
    }
    expect(hint).toBe(`Did you mean ${meant}?`);
  });

  it.each(["mirostat", "constructor", "__proto__x"])("refuses %s without guessing", (name) => {
    expect(() => validateSampling({ [name]: 1 })).toThrow(/no sampling parameter/);
  });
});
