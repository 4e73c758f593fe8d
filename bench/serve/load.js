// Clients that ask one thing after another for a given time, some of them rude.

import { complete } from "./client.js";
import { pick, randomNumbers } from "./random.js";

/**
 * Questions of mixed lengths, as ids without meaning: no model's words are needed for them.
 *
 * @param {{count: number, promptTokens: number[], tokens: number[], vocabSize: number, seed: number}} shape
 */
export function makeQuestions({ count, promptTokens, tokens, vocabSize, seed }) {
  const random = randomNumbers(seed);
  return Array.from({ length: count }, (_, index) => ({
    index,
    body: {
      // Ids above the special ones, whichever those are.
      prompt: Array.from({ length: pick(promptTokens, random) }, () => 300 + Math.floor(random() * (vocabSize - 300))),
      max_tokens: pick(tokens, random),
      temperature: 0,
      seed: index,
      ignore_eos: true,
    },
  }));
}

/**
 * Runs clients side by side.
 *
 * @param {{url: string, clients: number, seconds: number, questions: object[], fresh: boolean,
 *   cancels: number, disconnects: number, slow: number, seed: number}} load shares of rude clients from 0 to 1;
 *   fresh: no question twice (its first id is changed), so that no prompt is found in the cache
 * @returns {Promise<{outcomes: object[], seconds: number}>} of every request that ended
 */
export async function runLoad({ url, clients, seconds, questions, fresh, cancels, disconnects, slow, seed }) {
  const begun = performance.now();
  const end = begun + seconds * 1000;
  const outcomes = [];
  const client = async (number) => {
    const random = randomNumbers(seed * 1000 + number);
    for (let round = 0; performance.now() < end; round++) {
      const question = pick(questions, random);
      const dice = random();
      const manners = mannersOf(dice, { cancels, disconnects, slow }, question, random);
      const body = fresh ? { ...question.body, prompt: changed(question.body.prompt, number, round) } : question.body;
      const answer = await complete(url, body, manners);
      outcomes.push({ question: question.index, promptTokens: body.prompt.length, ...manners, ...answer });
    }
  };
  await Promise.all(Array.from({ length: clients }, (_, number) => client(number)));
  return { outcomes, seconds: (performance.now() - begun) / 1000 };
}

function mannersOf(dice, { cancels, disconnects, slow }, { body }, random) {
  if (dice < cancels) return { leaveAfterTokens: 1 + Math.floor(random() * body.max_tokens) };
  if (dice < cancels + disconnects) return { leaveAfterMs: random() * 200 };
  if (dice < cancels + disconnects + slow) return { slow: true };
  return {};
}

/** The same length and other ids from the first on. */
function changed(prompt, number, round) {
  const least = 300;
  return prompt.map((id, i) => (i < 4 ? least + ((id + number * 131 + round * 17 + i) % 3000) : id));
}
