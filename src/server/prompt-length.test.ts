import { describe, expect, it } from "vitest";
import type { Model } from "../engine/model.js";
import { refuseTooLong } from "./prompt-length.js";

/** A context of 100, words as tokens; notes how much it is asked to read. */
function words() {
  const read: number[] = [];
  const tokenize = async (text: string) => {
    read.push(text.length);
    return Array<number>(text.split(/\s+/).filter((word) => word !== "").length).fill(1);
  };
  return { read, model: { plan: { context: 100 }, tokenize } as unknown as Model };
}

describe("refuseTooLong", () => {
  it("does not look at texts that may well fit", async () => {
    const { model, read } = words();
    await refuseTooLong(model, ["a ".repeat(100), "b ".repeat(200)], "prompt");
    expect(read).toEqual([]);
  });

  it.each<[string, string[]]>([
    ["one long text", ["word ".repeat(100_000)]],
    ["many short texts", Array(10_000).fill("word word ")],
  ])("refuses %s after reading its beginning", async (_what, texts) => {
    const { model, read } = words();
    await expect(refuseTooLong(model, texts, "prompt")).rejects.toMatchObject({
      code: "CONTEXT_LENGTH_EXCEEDED",
      param: "prompt",
    });
    expect(read).toEqual([800]);
  });

  it("lets pass what has few tokens for its length", async () => {
    const { model } = words();
    await refuseTooLong(model, ["x".repeat(50_000)], "prompt");
  });
});
