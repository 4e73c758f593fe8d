// The fixtures with golden files from Hugging Face transformers, in one form: prompts, the
// logits that follow them and the greedy tokens.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type FileTensor, floatsOf, integersOf, readTensors } from "../reference/reader.js";
import { findFixture, fixture } from "../support/fixtures.js";

export interface GoldenPrompt {
  readonly ids: readonly number[];
  /** Index of the id after which each row of `logits` stands. */
  readonly positions: readonly number[];
  readonly logits: readonly Float64Array[];
  /** Greedy tokens and the length of the prompt that they follow, or `null`. */
  readonly greedy: { readonly after: number; readonly ids: readonly number[] } | null;
}

/** Folders of `tiny/` and `hf/`: small random models, every architecture and RoPE kind. */
export function smallModels(): string[] {
  return ["tiny", "hf"].flatMap((folder) => {
    const entries = readdirSync(fixture(folder), { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => `${folder}/${name}`);
  });
}

export function smallGolden(name: string): GoldenPrompt[] {
  const golden = readTensors(join(fixture(name), "golden.safetensors"));
  const ids = [...integersOf(golden.get("ids"))];
  const greedy = golden.has("greedy") ? { after: 100, ids: [...integersOf(golden.get("greedy"))] } : null;
  return [{ ids, positions: [...integersOf(golden.get("positions"))], logits: rowsOf(golden.get("logits")!), greedy }];
}

/** The trained checkpoints that are on this machine: 4-bit with and without act-order always are. */
export function trainedModels(): string[] {
  const all = ["demo-gptq-4bit-g128", "demo-gptq-4bit-g128-act", "demo-gptq-8bit-g128", "demo-fp16"];
  return all.filter((name) => findFixture(name));
}

export function trainedGolden(name: string): GoldenPrompt[] {
  const golden = readTensors(fixture(`${name}.golden.safetensors`));
  return ["prompt0", "prompt1", "prompt2", "prompt3"].map((prompt) => {
    const ids = [...integersOf(golden.get(`${prompt}.ids`))];
    const logits = rowsOf(golden.get(`${prompt}.logits_last8`)!);
    const greedy = golden.get(`${prompt}.greedy64`);
    return {
      ids,
      positions: logits.map((_, i) => ids.length - logits.length + i),
      logits,
      greedy: greedy ? { after: ids.length, ids: [...integersOf(greedy)] } : null,
    };
  });
}

export type ValidationSet = "stories" | "docs";

/** Tokens of one window of the perplexity reference. */
export const WINDOW = 1024;

/** Ids of window k: its first 1024 are read, its last 1024 predicted. */
export function validationWindow(set: ValidationSet, k: number): number[] {
  const ids = JSON.parse(readFileSync(fixture(`val_${set}_ids.json`), "utf8")) as number[];
  return ids.slice(k * WINDOW, (k + 1) * WINDOW + 1);
}

/** Windows of the reference, and their mean negative log-likelihood. */
export function referenceNll(name: string, set: ValidationSet): { windows: number; nll: number } {
  const all = JSON.parse(readFileSync(fixture("reference.json"), "utf8")) as Record<
    string,
    Record<ValidationSet, { windows: number; nll: number }>
  >;
  return all[name]![set];
}

function rowsOf(tensor: FileTensor): Float64Array[] {
  const values = floatsOf(tensor);
  const [rows, width] = tensor.shape as [number, number];
  return Array.from({ length: rows }, (_, i) => values.subarray(i * width, (i + 1) * width));
}
