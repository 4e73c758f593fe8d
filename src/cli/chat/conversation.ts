// What has been said. A turn is one user message and its answer; when the whole no longer
// fits the context, the oldest turns are left out of what the model sees, never the system
// message or the newest question.

import type { ChatMessage, Model } from "../../index.js";

/** At least this share of the context is kept for the answer. */
const ANSWER_SHARE = 1 / 8;

export class Conversation {
  system: string | null;
  #turns: { readonly user: string; answer: string | null }[] = [];

  constructor(system: string | null) {
    this.system = system;
  }

  ask(user: string): void {
    this.#turns.push({ user, answer: null });
  }

  /** Keeps the answer to the newest question. */
  answer(text: string): void {
    const turn = this.#turns.at(-1);
    if (turn) turn.answer = text;
  }

  /** Takes the newest turn back. @returns its question, or `null` when there is none */
  undo(): string | null {
    return this.#turns.pop()?.user ?? null;
  }

  reset(): void {
    this.#turns = [];
  }

  /** What the model sees, and how many of the oldest turns it does not. */
  async messages(model: Pick<Model, "tokenizeChat" | "plan">): Promise<{ messages: ChatMessage[]; leftOut: number }> {
    const most = Math.floor(model.plan.context * (1 - ANSWER_SHARE));
    for (let leftOut = 0; ; leftOut++) {
      const messages = this.#from(leftOut);
      const isLast = leftOut >= this.#turns.length - 1;
      if (isLast || (await model.tokenizeChat(messages)).length <= most) return { messages, leftOut };
    }
  }

  #from(first: number): ChatMessage[] {
    const system = this.system === null ? [] : [{ role: "system", content: this.system }];
    const turns = this.#turns
      .slice(first)
      .flatMap(({ user, answer }) => [
        { role: "user", content: user },
        ...(answer === null ? [] : [{ role: "assistant", content: answer }]),
      ]);
    return [...system, ...turns];
  }
}
