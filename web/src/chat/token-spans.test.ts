import { describe, expect, it } from "vitest";
import type { TokenProbability } from "../session/document.js";
import { level, tokensOfText } from "./token-spans.js";

const tokens = (...texts: string[]): TokenProbability[] => texts.map((text) => [text, -1, []]);

/** The text with each character's token below it. */
const owners = (text: string, ...texts: string[]) =>
  [...tokensOfText(text, tokens(...texts))].map((owner) => (owner < 0 ? "·" : owner)).join("");

describe("tokensOfText", () => {
  it("gives each character its token, also where the text has lost its first space", () => {
    expect(owners("One fox", " One", " fox")).toBe("0001111");
    expect(owners("aab", "aa", "b")).toBe("001");
  });

  it("passes over characters that no token spells by itself", () => {
    expect(owners("a→b", "a", "\ufffd", "\ufffd", "b")).toBe("0·3");
  });

  it("is not misled by tokens that are not in the text, such as those of a stop string", () => {
    expect(owners("Yes", "Yes", "\n", "You", ":")).toBe("000");
  });
});

describe("level", () => {
  it.each([
    [1, 4],
    [0.9, 4],
    [0.6, 3],
    [0.3, 2],
    [0.1, 1],
    [0.001, 0],
  ])("of a probability of %d is %d", (probability, expected) => expect(level(Math.log(probability))).toBe(expected));
});
