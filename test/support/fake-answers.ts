// What a generation over the fake runtime must say, computed without pages, chunks or a
// scheduler; and a tokenizer for it whose text shows every id.

import type { AnswerTokenizer } from "../../src/generate/generate.js";
import type { AdapterUse } from "../../src/model/adapter.js";
import { GREEDY, type SamplingParameters } from "../../src/sampling/parameters.js";
import { sample } from "../../src/sampling/sample.js";
import type { FakeRuntime } from "./fake-runtime.js";

/** The `count` ids that follow a prompt. */
export function expectedIds(
  runtime: FakeRuntime,
  prompt: readonly number[],
  count: number,
  {
    parameters = GREEDY,
    seed = 0,
    adapters,
  }: { parameters?: SamplingParameters; seed?: number; adapters?: readonly AdapterUse[] } = {},
): number[] {
  const ids = [...prompt];
  while (ids.length < prompt.length + count) {
    const history = Int32Array.from(ids);
    const request = { parameters, history, promptLength: prompt.length, seed, position: ids.length, mask: null };
    ids.push(sample(runtime.expectedLogits(ids, prompt.length, adapters), request).id);
  }
  return ids.slice(prompt.length);
}

/** Id n is the n-th letter, `A` = 0; ids from 26 on are ` a`, ` b`, …: words of small letters. */
export const letters: AnswerTokenizer = {
  eosIds: [],
  bytes: (id) => new TextEncoder().encode(letterOf(id)),
  stream: ({ continuation = false } = {}) => {
    let first = !continuation;
    return {
      push: (id) => {
        const text = letterOf(id);
        const shown = first ? text.trimStart() : text;
        first = false;
        return shown;
      },
      end: () => "",
    };
  },
};

function letterOf(id: number): string {
  return id < 26 ? String.fromCharCode(65 + id) : ` ${String.fromCharCode(97 + id - 26)}`;
}

/** The text of ids as {@link letters} writes it. */
export function lettersOf(ids: readonly number[], continuation = false): string {
  const stream = letters.stream({ continuation });
  return ids.map((id) => stream.push(id)).join("");
}

/** A repeatable prompt of `length` ids. */
export function promptOf(length: number, seed = 1, vocabSize = 40): number[] {
  return Array.from({ length }, (_, i) => (Math.imul(i + seed * 977, 2654435761) >>> 8) % vocabSize);
}

/** Makes the model say `idAt(position)` as the token at each position. */
export function force(runtime: FakeRuntime, idAt: (position: number) => number): void {
  runtime.shape = (logits, lastFed) => {
    logits[idAt(lastFed + 1)] = 100;
  };
}
