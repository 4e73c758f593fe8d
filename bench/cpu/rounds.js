// One protocol for both sides: the parent asks for a round, the side measures it and answers
// in tokens per second.

import { performance } from "node:perf_hooks";

export const PROMPT_TOKENS = 256;
export const DECODE_TOKENS = 64;
const SHORT_PROMPT = 8;

/** Ids that never repeat a prefix, so that no side can reuse an earlier round's KV cache. */
function randomPrompt(length) {
  return Array.from({ length }, () => 259 + Math.floor(Math.random() * 31000));
}

/**
 * Answers rounds until the parent disconnects.
 *
 * @param side `generate(prompt, count)` makes `count` tokens after a prompt and answers with
 *   the moment (`performance.now()`) at which the first one was there
 */
export function serve({ generate, about }) {
  const rounds = {
    /** Tokens/s from the first token to the last. */
    async decode() {
      const first = await generate(randomPrompt(SHORT_PROMPT), DECODE_TOKENS + 1);
      return (DECODE_TOKENS * 1000) / (performance.now() - first);
    },
    /** Prompt tokens/s from the request to the first token. */
    async prompt() {
      const start = performance.now();
      return (PROMPT_TOKENS * 1000) / ((await generate(randomPrompt(PROMPT_TOKENS), 1)) - start);
    },
  };
  process.on("message", async (kind) => {
    try {
      process.send({ tokensPerSecond: await rounds[kind]() });
    } catch (error) {
      process.send({ error: String(error?.stack ?? error) });
    }
  });
  process.on("disconnect", () => process.exit(0));
  process.send({ ready: { ...about, node: process.version } });
}
