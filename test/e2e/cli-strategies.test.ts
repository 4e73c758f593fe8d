// Guidance, beams and guesses ahead on the command line.

import { beforeAll, describe, expect, it } from "vitest";
import type { GenerationResult } from "../../src/index.js";
import { fixture } from "../support/fixtures.js";
import { jsonOf } from "../support/run-cli.js";
import { runHere } from "../support/run-here.js";

const draft = fixture("draft-fp16");
const common = ["--backend", "cpu", "--ctx", "512", "--temperature", "0", "-n", "16", "--ignore-eos"];

async function answer(...options: string[]): Promise<GenerationResult> {
  const result = await runHere([
    "generate",
    ...common,
    "--json",
    "--prompt",
    "The fox is red. The bear is brown. The fox",
    ...options,
  ]);
  expect(result.stderr).not.toMatch(/error/i);
  return jsonOf<GenerationResult>(result);
}

describe("exllama generate", () => {
  let plain: GenerationResult;
  beforeAll(async () => {
    plain = await answer();
  });

  it("says the same with guesses ahead, and how many were right", async () => {
    expect(plain.speculation).toBeUndefined();
    for (const options of [
      ["--draft", draft],
      ["--draft", draft, "--speculate", "2"],
      ["--speculate", "3"],
      ["--speculate", "3", "--speculate-ngram", "2"],
    ]) {
      const { ids, speculation } = await answer(...options);
      expect(ids).toEqual(plain.ids);
      expect(speculation!.accepted).toBeLessThanOrEqual(speculation!.proposed);
    }
    expect((await answer("--draft", draft, "--speculate", "0")).speculation).toBeUndefined();
  });

  it("takes places for guidance and beams by itself", async () => {
    expect((await answer("--negative-prompt", "Rain.", "--guidance", "3")).ids).not.toEqual(plain.ids);
    expect((await answer("--beams", "1", "--beam-length", "4")).ids).toEqual(plain.ids);
    expect((await answer("--beams", "4")).ids).toHaveLength(16);
  });

  it.each([
    [["--guidance", "2"], /--guidance stands alone/],
    [["--negative-prompt", "x"], /--negative-prompt stands alone/],
    [["--beam-length", "3"], /--beam-length goes with --beams/],
    [["--speculate-ngram", "3"], /--speculate-ngram stands alone/],
    [["--beams", "2", "--max-sequences", "1"], /sequences/],
    [["--speculate", "1000"], /speculate cannot be 1000/],
  ])("refuses %j", async (options, message) => {
    const result = await runHere(["generate", ...common, "--prompt", "x", ...options]);
    expect(result.stderr).toMatch(message);
    expect(result.code).not.toBe(0);
  });
});
