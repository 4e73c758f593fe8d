// Sampling when the caller does not say how: as the model's generation_config.json wants it,
// else as ExLlama does. A file that names no sampling value at all (most base models) counts
// as none.

import { GREEDY, type SamplingParameters } from "../sampling/parameters.js";
import { samplingProblem } from "../sampling/validate.js";

/** ExLlama's own defaults (generator.py). */
export const EXLLAMA_DEFAULTS: SamplingParameters = {
  ...GREEDY,
  temperature: 0.95,
  topK: 40,
  topP: 0.65,
  minP: 0,
  typical: 0,
  repetitionPenalty: 1.15,
  penaltySustain: 256,
  penaltyDecay: 128,
};

/** Everything off, the model's distribution as it is: what a generation_config.json starts from. */
const PLAIN: SamplingParameters = { ...GREEDY, temperature: 1 };

/** Keys of generation_config.json, and the parameters they mean here. */
const KEYS = {
  temperature: "temperature",
  top_k: "topK",
  top_p: "topP",
  min_p: "minP",
  typical_p: "typical",
  repetition_penalty: "repetitionPenalty",
} as const satisfies Record<string, keyof SamplingParameters>;

export interface SamplingDefaults {
  readonly parameters: SamplingParameters;
  readonly source: "generation_config.json" | "ExLlama";
  /** Keys of the file whose values make no sense and are passed over. */
  readonly invalid: readonly string[];
}

/**
 * Defaults for programs.
 *
 * @param generationConfig parsed generation_config.json, or `null`; not believed
 */
export function samplingDefaults(generationConfig: unknown): SamplingDefaults {
  const file = isRecord(generationConfig) ? generationConfig : {};
  if (file.do_sample === false) return { parameters: GREEDY, source: "generation_config.json", invalid: [] };

  const given: Partial<Record<keyof SamplingParameters, unknown>> = {};
  const invalid: string[] = [];
  for (const [key, name] of Object.entries(KEYS)) {
    const value = file[key];
    if (value === undefined || value === null) continue;
    if (samplingProblem(name, value)) invalid.push(key);
    else given[name] = value;
  }
  if (file.do_sample !== true && Object.keys(given).length === 0) {
    return { parameters: EXLLAMA_DEFAULTS, source: "ExLlama", invalid };
  }
  // The file's penalty is Hugging Face's, which knows no decay: all of the text counts.
  const parameters = { ...PLAIN, penaltySustain: -1, penaltyDecay: 0, ...given } as SamplingParameters;
  return { parameters, source: "generation_config.json", invalid };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
