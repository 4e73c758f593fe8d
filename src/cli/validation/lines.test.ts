import { describe, expect, it } from "vitest";
import type { Verdict } from "./judge.js";
import { verdictLines } from "./lines.js";

const same: Verdict = {
  check: "again",
  ok: true,
  perplexity: 5,
  reference: 5,
  difference: 0,
  uncertainty: 0,
  allowed: 0,
  sameBits: true,
  remark: null,
};

describe("verdictLines", () => {
  it("says of each check what it found and what was allowed, and marks what failed", () => {
    const off = {
      ...same,
      check: "a batch of 8",
      ok: false,
      perplexity: 5.1,
      difference: 0.02,
      uncertainty: 0.001,
      sameBits: false,
    };
    const verdicts = [
      same,
      { ...off, remark: "2 of 8 answers take another way" },
      { ...off, check: "exact", ok: true, allowed: 0.05 },
    ];
    const lines = verdictLines({ backend: "cpu", tokens: 1024, verdicts }, { bad: (text) => `!${text}`, dim: (text) => text });
    expect(lines).toEqual([
      "1,024 tokens, cpu  perplexity  reference         difference    allowed",
      "again                  5.0000     5.0000          same bits  same bits  ok",
      "!a batch of 8           5.1000     5.0000  2.000 % ± 0.100 %  same bits  FAILED",
      "  2 of 8 answers take another way",
      "exact                  5.1000     5.0000  2.000 % ± 0.100 %    5.000 %  ok",
    ]);
  });
});
