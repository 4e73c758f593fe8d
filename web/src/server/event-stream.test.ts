import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { eventData } from "./event-stream.js";

const bytes = new TextEncoder();

/** The stream in pieces of these lengths, over and over. */
async function read(text: string, lengths: readonly number[]): Promise<string[]> {
  const all = bytes.encode(text);
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (let at = 0, turn = 0; at < all.length; turn++) {
        const length = lengths[turn % lengths.length]!;
        controller.enqueue(all.slice(at, at + length));
        at += length;
      }
      controller.close();
    },
  });
  return collected(eventData(body));
}

async function collected(events: AsyncIterable<string>): Promise<string[]> {
  const list: string[] = [];
  for await (const event of events) list.push(event);
  return list;
}

describe("eventData", () => {
  it("gives the data of each event, without comments and other fields", async () => {
    expect(await read(": ping\n\ndata: {}\n\nevent: x\ndata: a\ndata: b\n\ndata: [DONE]\n\n", [1000])).toEqual([
      "{}",
      "a\nb",
      "[DONE]",
    ]);
  });

  it("does not depend on where the stream is cut, in the middle of a character either", async () => {
    const text = "data: Füchse → 狐\n\n: ping\n\ndata: 🦊\n\n";
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1 }), async (lengths) => {
        expect(await read(text, lengths)).toEqual(["Füchse → 狐", "🦊"]);
      }),
    );
  });
});
