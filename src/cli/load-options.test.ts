import { afterEach, describe, expect, it, vi } from "vitest";
import type { Model } from "../index.js";
import { remarksOf } from "./load-options.js";

afterEach(() => vi.restoreAllMocks());

/** What a person reads of a model with these notes and these odd keys in its generation_config.json. */
function remarks(notes: string[], invalid: string[]): string {
  let shown = "";
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    shown += text;
    return true;
  });
  remarksOf({ plan: { notes }, info: { sampling: { invalid } } } as unknown as Model);
  return shown;
}

describe("remarksOf", () => {
  it("says why it is the CPU, and which of the model's sampling values do not count", () => {
    expect(remarks(["on the CPU: no driver", "something else"], ["temperature", "top_p"])).toMatch(
      /^.*on the CPU: no driver.*\n.*generation_config\.json: what it says of temperature, top_p makes no sense.*\n$/,
    );
    expect(remarks([], [])).toBe("");
  });
});
