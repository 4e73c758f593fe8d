import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { GREEDY } from "../sampling/parameters.js";
import { validateSampling } from "../sampling/validate.js";
import { EXLLAMA_DEFAULTS, samplingDefaults } from "./defaults.js";

describe("samplingDefaults", () => {
  it.each([null, undefined, {}, [], "text", 3, { bos_token_id: 1, eos_token_id: [2] }])("are ExLlama's for %j", (file) => {
    expect(samplingDefaults(file)).toEqual({ parameters: EXLLAMA_DEFAULTS, source: "ExLlama", invalid: [] });
  });

  it("are the file's where it names some, everything else off", () => {
    const { parameters, source } = samplingDefaults({ do_sample: true, temperature: 0.6, top_p: 0.9 });
    expect(source).toBe("generation_config.json");
    expect(parameters).toMatchObject({ temperature: 0.6, topP: 0.9, topK: 0, minP: 0, repetitionPenalty: 1 });
  });

  it("read every key", () => {
    const file = { temperature: 0.5, top_k: 20, top_p: 0.8, min_p: 0.1, typical_p: 0.95, repetition_penalty: 1.05 };
    expect(samplingDefaults(file).parameters).toMatchObject({
      temperature: 0.5,
      topK: 20,
      topP: 0.8,
      minP: 0.1,
      typical: 0.95,
      repetitionPenalty: 1.05,
      penaltySustain: -1,
    });
  });

  it("are greedy where the file says not to sample", () => {
    expect(samplingDefaults({ do_sample: false, temperature: 0.7 }).parameters).toEqual(GREEDY);
  });

  it("pass over values that make no sense, and name them", () => {
    const { parameters, invalid } = samplingDefaults({ do_sample: true, temperature: -1, top_p: "0.9", top_k: 30 });
    expect(parameters).toMatchObject({ temperature: 1, topP: 1, topK: 30 });
    expect(invalid).toEqual(["temperature", "top_p"]);
  });

  it("are always valid, whatever the file holds", () => {
    const keys = ["do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty"];
    const anyFile = fc.oneof(fc.jsonValue(), fc.dictionary(fc.constantFrom(...keys), fc.jsonValue()));
    fc.assert(
      fc.property(anyFile, (file) => {
        const { parameters } = samplingDefaults(file);
        expect(validateSampling(parameters)).toEqual(parameters);
      }),
    );
  });
});
