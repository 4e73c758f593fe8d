// Several answers to one request, read together.

import type { GenerateOptions, GenerationEvent, GenerationResult } from "../engine/model.js";
import type { AnswerFeed } from "./answer-feed.js";

/** A piece of one choice; at its end its result. */
export type ChoiceEvent = { readonly index: number } & (
  | { readonly piece: GenerationEvent }
  | { readonly result: GenerationResult }
);

/** Pieces of all choices as they come. @throws the first failure */
export async function* asTheyCome(feeds: readonly AnswerFeed[]): AsyncGenerator<ChoiceEvent, void> {
  const read = async (index: number): Promise<ChoiceEvent> => {
    const piece = await feeds[index]!.next();
    return piece === null ? { index, result: await feeds[index]!.result } : { index, piece };
  };
  const next = (index: number): Promise<ChoiceEvent> => {
    const event = read(index);
    // Whoever leaves before it comes does not hear how it failed.
    event.catch(() => {});
    return event;
  };
  const pending = new Map(feeds.map((_, index) => [index, next(index)]));
  while (pending.size > 0) {
    const event = await Promise.race(pending.values());
    if ("piece" in event) pending.set(event.index, next(event.index));
    else pending.delete(event.index);
    yield event;
  }
}

/**
 * Waits until a choice has begun, but not longer than this. What is wrong with a request shows before any
 * token of it.
 *
 * @throws why none will, where that is known first
 */
export async function begunWithin(feeds: readonly AnswerFeed[], milliseconds: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const enough = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, milliseconds);
  });
  try {
    await Promise.race([enough, ...feeds.map((feed) => feed.begun)]);
  } finally {
    clearTimeout(timer);
  }
}

/** Choices of one request differ: with a seed, each has its own, counted up from it. */
export function optionsOfChoice(options: GenerateOptions, index: number): GenerateOptions {
  return options.seed === undefined ? options : { ...options, seed: options.seed + index };
}
