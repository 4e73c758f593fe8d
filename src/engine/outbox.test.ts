import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import type { GenerationEvent } from "./model.js";
import { Outbox } from "./outbox.js";
import type { FromEngine } from "./protocol.js";

describe("Outbox", () => {
  it("sends what all sequences say in one step as one message", async () => {
    const { sent, outbox } = collecting();
    outbox.add(1, say("a"));
    outbox.add(2, say("b"));
    outbox.add(1, say("c"));
    await nextTurn();
    expect(sent).toEqual([
      {
        type: "step",
        pieces: [
          [1, say("ac")],
          [2, say("b")],
        ],
      },
    ]);
  });

  it("joins text while too much lies unread, and goes on when it is read", async () => {
    const { sent, outbox } = collecting();
    await steps(outbox, 1000);
    const unread = sent.length;
    expect(unread).toBeLessThan(100);
    await steps(outbox, 1000);
    expect(sent.length).toBe(unread);
    outbox.acknowledge(unread);
    expect(sent.length).toBe(unread + 1);
    expect(textOf(sent, 1)).toBe("x".repeat(2000));
  });

  it("sends the rest of a finished sequence, read or not", async () => {
    const { sent, outbox } = collecting();
    await steps(outbox, 500);
    outbox.finish(1);
    expect(textOf(sent, 1)).toBe("x".repeat(500));
  });

  it("forgets a dropped sequence and leaves the others", async () => {
    const { sent, outbox } = collecting();
    outbox.add(1, say("a"));
    outbox.add(2, say("b"));
    outbox.drop(1);
    await nextTurn();
    expect(sent).toEqual([{ type: "step", pieces: [[2, say("b")]] }]);
  });
});

/** A token for each letter. */
function say(text: string): GenerationEvent {
  const tokens = Array.from(text, (letter) => ({ id: letter.charCodeAt(0), text: letter, bytes: [], logprob: -1, top: [] }));
  return { text, ids: tokens.map(({ id }) => id), tokens };
}

function collecting() {
  const sent: FromEngine[] = [];
  return { sent, outbox: new Outbox((message) => void sent.push(message)) };
}

async function steps(outbox: Outbox, count: number): Promise<void> {
  for (let step = 0; step < count; step++) {
    outbox.add(1, say("x"));
    await nextTurn();
  }
}

function textOf(sent: readonly FromEngine[], id: number): string {
  return sent
    .flatMap((message) => (message.type === "step" ? message.pieces : []))
    .filter(([of]) => of === id)
    .map(([, { text }]) => text)
    .join("");
}
