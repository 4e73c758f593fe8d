// exllama generate, against the golden ids of the embedded model.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { openSafetensors } from "../../src/checkpoint/local.js";
import { fixture } from "../support/fixtures.js";
import { jsonOf, runCli } from "../support/run-cli.js";
import { runHere } from "../support/run-here.js";

interface Answer {
  text: string;
  ids: number[];
  promptTokens: number;
  finishReason: string;
  timings: Record<string, number>;
}

const demo = fixture("demo-gptq-4bit-g128");
const folder = mkdtempSync(join(tmpdir(), "exllama-cli-"));
afterAll(() => rmSync(folder, { recursive: true }));

async function golden(name: string): Promise<number[]> {
  const file = await openSafetensors(fixture("demo-gptq-4bit-g128.golden.safetensors"));
  try {
    const tensor = file.tensors.get(name)!;
    const bytes = new Uint8Array(tensor.bytes);
    await file.read(tensor, 0, bytes);
    return tensor.dtype === "I64"
      ? Array.from(new BigInt64Array(bytes.buffer), Number)
      : Array.from(new Int32Array(bytes.buffer));
  } finally {
    await file.close();
  }
}

describe("exllama generate --json", () => {
  it("gives the golden greedy ids of a prompt of ids", async () => {
    const [prompt, expected] = [await golden("prompt0.ids"), await golden("prompt0.greedy64")];
    const args = ["--model", demo, "--prompt-ids", prompt.join(","), "--max-tokens", "64", "--temperature", "0", "--ignore-eos"];
    const result = await runCli(["generate", ...args, "--cpu-exact", "--ctx", "512", "--json"]);
    expect(result.code).toBe(0);
    const answer = jsonOf<Answer>(result);
    expect(answer.ids).toEqual(expected);
    expect(answer).toMatchObject({ promptTokens: prompt.length, finishReason: "length" });
    expect(Object.keys(answer)).toEqual(["text", "ids", "promptTokens", "finishReason", "timings"]);
    expect(answer.timings.tokensPerSecond).toBeGreaterThan(0);
  });

  it("reads a text prompt, repeats a seeded answer, and ends at a stop text", async () => {
    const args = ["generate", "--model", demo, "--prompt", "Once upon a time", "--max-tokens", "24", "--seed", "7", "--json"];
    const first = jsonOf<Answer>(await runHere(args));
    expect(first.promptTokens).toBe(5);
    const end = first.text.slice(-12, -4);
    const stopped = jsonOf<Answer>(await runHere([...args, "--stop", end]));
    const repeated = first.text.slice(0, first.text.indexOf(end));
    expect(repeated.length).toBeGreaterThan(20);
    expect(stopped.text).toBe(repeated);
    expect(stopped.finishReason).toBe("stop");
  });

  it("keeps special spellings in a prompt plain unless told otherwise", async () => {
    const base = ["generate", "--model", demo, "--prompt", "<|user|>\nHi<|end|>\n<|assistant|>\n", "--max-tokens", "1", "--json"];
    const plain = jsonOf<Answer>(await runHere(base));
    const parsed = jsonOf<Answer>(await runHere([...base, "--parse-special"]));
    expect(parsed.promptTokens).toBe(9);
    expect(plain.promptTokens).toBeGreaterThan(20);
  });
});

describe("exllama generate", () => {
  it("streams text to standard output and nothing else there", async () => {
    const result = await runCli([
      "generate",
      "--chat",
      "--prompt",
      "What is the opposite of hot?",
      "--temperature",
      "0",
      "--cpu-exact",
    ]);
    expect(result).toMatchObject({ code: 0, stdout: "It is cold.\n" });
    expect(result.stderr).toBe("no --model given: using the small demo model that comes with exllama-ts\n");
  });

  it("reads the prompt from a file or from standard input", async () => {
    const file = join(folder, "prompt.txt");
    writeFileSync(file, "Once upon a time");
    const args = ["--max-tokens", "8", "--temperature", "0", "--model", demo];
    const fromFile = jsonOf<Answer>(await runHere(["generate", "--prompt-file", file, ...args, "--json"]));
    const fromStdin = await runCli(["generate", "--prompt-file", "-", ...args], { stdin: "Once upon a time" });
    expect(fromFile).toMatchObject({ promptTokens: 5, text: expect.stringMatching(/./) });
    expect(fromStdin.stdout).toBe(`${fromFile.text}\n`);
  });

  const endless = [
    "generate",
    "--prompt",
    "x",
    "--ignore-eos",
    "--temperature",
    "0",
    "--cpu-exact",
    "--threads",
    "1",
    "--ctx",
    "2048",
  ];

  it("stops at SIGINT with what there is, and exits with 130", async () => {
    const result = await runCli(endless, { onStdout: (child) => void child.kill("SIGINT") });
    expect(result.code).toBe(130);
    expect(result.stdout).toMatch(/.+\n$/s);
  });

  it("stops at SIGINT while loading", async () => {
    const result = await runCli(endless, { onStderr: (child) => void child.kill("SIGINT") });
    expect(result).toMatchObject({ code: 130, stdout: "" });
  });

  it("ends quietly when nobody reads on", async () => {
    const result = await runCli(["generate", "--prompt", "x", "--ignore-eos", "--model", demo, "--backend", "cpu"], {
      onStdout: (child) => void child.stdout.destroy(),
    });
    expect(result).toMatchObject({ code: 0, stderr: "" });
  });
});

describe("prompts that cannot be run", () => {
  it.each([
    ["none", [], 2, /there is no prompt/],
    ["two", ["--prompt", "x", "--prompt-ids", "1"], 2, /more than one prompt/],
    ["an empty text", ["--prompt", ""], 1, /prompt is empty/],
    ["no ids", ["--prompt-ids", ""], 1, /prompt is empty/],
    ["ids that are none", ["--prompt-ids", "1,x"], 2, /not a token id/],
    ["a file that is not there", ["--prompt-file", "/nonexistent/prompt"], 2, /cannot be read/],
    ["--system without --chat", ["--prompt", "x", "--system", "y"], 2, /--chat only/],
    ["--chat with ids", ["--prompt-ids", "1", "--chat"], 2, /does not go|do not go/],
  ] as const)("%s", async (_what, args, code, message) => {
    const result = await runHere(["generate", "--model", demo, ...args]);
    expect(result.stderr).toMatch(message);
    expect(result.stderr).not.toMatch(/\n\s+at /);
    expect(result).toMatchObject({ code, stdout: "" });
  });
});
