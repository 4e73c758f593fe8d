import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { StopStrings } from "./stopping.js";

/** What is handed out for each piece, then at the end. */
function feed(stops: readonly string[], pieces: readonly string[]) {
  const matcher = new StopStrings(stops);
  const out = pieces.map((piece) => matcher.push(piece));
  const stopped = matcher.stopped;
  return { out: [...out, matcher.end()], stopped };
}

/** The text before the first place where a stop string is complete, by looking everywhere. */
function naive(stops: readonly string[], text: string): { text: string; stopped: boolean } {
  for (let end = 1; end <= text.length; end++) {
    const matches = stops.filter((stop) => text.slice(0, end).endsWith(stop));
    if (matches.length > 0) return { text: text.slice(0, end - Math.max(...matches.map((stop) => stop.length))), stopped: true };
  }
  return { text, stopped: false };
}

describe("StopStrings", () => {
  it.each<[string, string[], string[], string[]]>([
    ["lets text pass at once", ["STOP"], ["hello ", "world"], ["hello ", "world", ""]],
    ["holds a beginning back", ["\nUser:"], ["hi\nUs", "er: you"], ["hi", "", ""]],
    ["hands out what turns out to be none", ["\nUser:"], ["hi\nUs", "ing it"], ["hi", "\nUsing it", ""]],
    ["hands out at the end what never became one", ["abc"], ["xab"], ["x", "ab"]],
    ["finds one that begins inside a false start", ["aab"], ["aaa", "b"], ["a", "", ""]],
    ["takes the one that is complete first", ["abcd", "bc"], ["abcd"], ["a", ""]],
    ["cuts before the longest that ends at the same place", ["cd", "bcd"], ["abcd"], ["a", ""]],
    ["passes everything without stop strings", [], ["a", "b"], ["a", "b", ""]],
  ])("%s", (_, stops, pieces, out) => {
    expect(feed(stops, pieces).out).toEqual(out);
  });

  it("agrees with a naive search over any cutting, and never hands out what it would have to take back", () => {
    const anyText = (maxLength: number) => fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength });
    const anyStops = fc.array(fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 1, maxLength: 5 }), { maxLength: 4 });
    fc.assert(
      fc.property(anyStops, fc.array(anyText(6), { maxLength: 20 }), (stops, pieces) => {
        const whole = pieces.join("");
        const expected = naive(stops, whole);
        const { out, stopped } = feed(stops, pieces);
        expect(out.join("")).toBe(expected.text);
        expect(stopped).toBe(expected.stopped);
        for (let i = 1; i <= pieces.length; i++) {
          const soFar = out.slice(0, i).join("");
          const read = pieces.slice(0, i).join("");
          // Nothing is held back but what could still become a stop string.
          const held = read.slice(soFar.length);
          if (!naive(stops, read).stopped) expect(held === "" || stops.some((stop) => stop.startsWith(held))).toBe(true);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it("reads code units: half of a pair is not mistaken for another", () => {
    expect(feed(["😀"], ["a😁", "😀b"]).out).toEqual(["a😁", "", ""]);
  });

  it("takes time in proportion to the text, however long the stop strings and small the pieces are", () => {
    // Quadratic matching would need 10^10 steps here and end with the test's time limit.
    const stop = `${"a".repeat(100_000)}b`;
    const matcher = new StopStrings([stop]);
    let length = 0;
    for (let i = 0; i < 300_000; i++) length += matcher.push("a").length;
    expect(length).toBe(200_000);
    expect(matcher.push("b")).toBe("");
    expect(matcher.stopped).toBe(true);
  });
});
