import { describe, expect, it } from "vitest";
import { type GreedyAnswer, judgeAnswers, judgeScores, perplexityOf } from "./judge.js";

const scores = Float32Array.of(-1, -2, -0.5);
const nearly = Float32Array.of(-1, -2, -0.5001);
const far = Float32Array.of(-1.1, -2.1, -0.6);

describe("judgeScores", () => {
  it.each([
    ["equal bits where they must be", scores.slice(), 0, true],
    ["a last bit where all must be equal", nearly, 0, false],
    ["a last bit within the bound", nearly, 1e-3, true],
    ["a difference beyond the bound", far, 1e-3, false],
    ["no number", Float32Array.of(-1, -2, Number.NaN), 1e-3, false],
    ["fewer scores", scores.slice(0, 2), 0.5, false],
  ])("%s", (_, got, allowed, ok) => {
    const verdict = judgeScores("x", got, scores, allowed);
    expect(verdict.ok).toBe(ok);
    expect(verdict.reference).toBeCloseTo(Math.exp(3.5 / 3), 6);
  });

  it("leaves to chance what a text of this length does", () => {
    const length = 400;
    const noisy = (deviation: number, shift: number) =>
      Float32Array.from({ length }, (_, i) => -1 + (i % 2 === 0 ? deviation : -deviation) + shift);
    const wanted = new Float32Array(length).fill(-1);
    expect(judgeScores("x", noisy(0.2, 0.02), wanted, 0.005)).toMatchObject({ ok: true, uncertainty: expect.closeTo(0.01, 4) });
    expect(judgeScores("x", noisy(0.2, 0.05), wanted, 0.005).ok).toBe(false);
    expect(judgeScores("x", noisy(0.001, 0.02), wanted, 0.005).ok).toBe(false);
  });

  it("gives the perplexity", () => {
    expect(perplexityOf(Float32Array.of(-Math.log(4), -Math.log(9)))).toBeCloseTo(6, 5);
    expect(perplexityOf(new Float32Array())).toBe(1);
  });
});

describe("judgeAnswers", () => {
  const answer = (...ids: number[]): GreedyAnswer => ({ ids, logprobs: Float32Array.from(ids, (id) => -id / 10) });

  it("takes equal answers for what they are", () => {
    const verdict = judgeAnswers("x", [answer(1, 2), answer(3)], [answer(1, 2), answer(3)], 0);
    expect(verdict).toMatchObject({ ok: true, sameBits: true, remark: null });
  });

  it("says where one takes another way; that is a fault only where bits are promised", () => {
    const together = [answer(1, 2, 3, 4), answer(5, 6)];
    const alone = [answer(1, 2, 7, 8), answer(5, 6)];
    const remark = "1 of 2 answers take another way, the first after 2 tokens";
    expect(judgeAnswers("x", together, alone, 0)).toMatchObject({ ok: false, sameBits: false, remark });
    expect(judgeAnswers("x", together, alone, 1e-3)).toMatchObject({ ok: true, sameBits: false, difference: 0, remark });
  });

  it("holds what is common against the bound all the same", () => {
    const other: GreedyAnswer = { ids: [1, 2], logprobs: Float32Array.of(-0.3, -0.4) };
    expect(judgeAnswers("x", [other], [answer(1, 2)], 1e-3).ok).toBe(false);
  });

  it("notices an answer that ends early", () => {
    expect(judgeAnswers("x", [answer(1)], [answer(1, 2)], 0).ok).toBe(false);
  });
});
