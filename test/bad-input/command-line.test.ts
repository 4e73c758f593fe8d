// Bad input on the command line: exit code 2 for what was asked wrongly, 1 for what cannot be
// done, one JSON line with a stable code where JSON was asked for, nothing on standard output
// where it was not.

import { afterAll, describe, expect, it } from "vitest";
import { fixture } from "../support/fixtures.js";
import { runHere } from "../support/run-here.js";
import { SpoiledCheckpoint } from "./spoiled-checkpoint.js";

const demo = fixture("demo-gptq-4bit-g128");
const spoiled = new SpoiledCheckpoint();
spoiled.header((header) => {
  header["model.norm.weight"]!.dtype = "F7_E9M9";
});
afterAll(() => spoiled[Symbol.dispose]());

const exllama = (...args: string[]) => runHere(args);

describe("exllama", () => {
  it.each([
    ["an unknown command", ["frobnicate"], /unknown command 'frobnicate'/],
    ["a misspelt command", ["generat", "--model", demo], /did you mean generate/i],
    ["a misspelt flag", ["generate", "--model", demo, "--promt", "x"], /did you mean --prompt/i],
    ["a flag without its value", ["generate", "--model"], /--model/],
    ["no prompt", ["generate", "--model", demo], /prompt/],
    ["ids that are none", ["generate", "--model", demo, "--prompt-ids", "1,x"], /"x"/],
    ["a number that is none", ["generate", "--model", demo, "--prompt", "x", "--max-tokens", "many"], /many/],
    ["a split that cannot be read", ["plan", "--model", demo, "--gpu-split", "five"], /"five"/],
    ["devices that cannot be read", ["plan", "--model", demo, "--devices", "24GiB,big"], /big/],
    ["a context of 0", ["plan", "--model", demo, "--ctx", "0"], /0/],
  ])("%s: exit 2", async (_, args, message) => {
    const { code, stdout, stderr } = await exllama(...args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  it.each([
    ["a folder that is not there", "CHECKPOINT_NOT_FOUND", ["plan", "--model", "no/such/folder"], /no folder/],
    ["a file in place of a folder", "CHECKPOINT_NOT_FOUND", ["plan", "--model", `${demo}/config.json`], /is a file/],
    [
      "a damaged checkpoint",
      "SAFETENSORS_UNKNOWN_DTYPE",
      ["generate", "--model", spoiled.folder, "--prompt-ids", "1"],
      /F7_E9M9/,
    ],
    ["an id beyond the vocabulary", "TOKEN_ID", ["generate", "--model", demo, "--prompt-ids", "1,99999"], /99999/],
    [
      "a prompt longer than the context",
      "PROMPT_TOO_LONG",
      ["generate", "--model", demo, "--ctx", "256", "--prompt-ids", Array(300).fill(5).join(",")],
      /300 tokens.*context of 256/,
    ],
  ])("%s: exit 1 and %s", async (_, code, args, message) => {
    const plain = await exllama(...args);
    expect({ exit: plain.code, stdout: plain.stdout }).toEqual({ exit: 1, stdout: "" });
    expect(plain.stderr).toMatch(message);
    expect(plain.stderr).not.toMatch(/^\s+at /m);
    const json = await exllama(...args, "--json");
    expect(json.code).toBe(1);
    expect(JSON.parse(json.stdout)).toMatchObject({ error: { code, message: expect.any(String) } });
  });

  it("a model that does not fit: exit 1 and the refusal itself", async () => {
    const { code, stdout } = await exllama(
      "plan",
      "--model",
      demo,
      "--devices",
      "1GiB",
      "--ctx",
      "2048",
      "--cache-tokens",
      "1000000",
      "--json",
    );
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({
      ok: false,
      code: "PLAN_DOES_NOT_FIT",
      shortfall: expect.any(Number),
      suggestions: expect.any(Array),
    });
  });
});
