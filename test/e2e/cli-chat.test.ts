// exllama chat from a pipe: one message per line.

import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { fixture } from "../support/fixtures.js";
import { runCli } from "../support/run-cli.js";
import { runHere } from "../support/run-here.js";

const demo = fixture("demo-gptq-4bit-g128");
const folder = mkdtempSync(join(tmpdir(), "exllama-cli-"));
afterAll(() => rmSync(folder, { recursive: true }));
const onDemo = ["chat", "--model", demo, "--temperature", "0"];
/** Where it matters what is said, or that it takes a while. */
const greedy = [...onDemo, "--cpu-exact"];

describe("exllama chat", () => {
  it("answers line by line and ends with its input", async () => {
    const result = await runCli(greedy, { stdin: "What is the opposite of hot?\n\nWhat is the opposite of hot?" });
    expect(result).toMatchObject({ code: 0, stderr: "" });
    expect(result.stdout.startsWith("It is cold.\n")).toBe(true);
    expect(result.stdout.trimEnd().split("\n")).toHaveLength(2);
  });

  it("prints answers as JSON lines", async () => {
    const { stdout } = await runCli([...greedy, "--json"], { stdin: "What is the opposite of hot?\nHi\n" });
    const answers = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { text: string; finishReason: string; promptTokens: number });
    expect(answers).toHaveLength(2);
    expect(answers[0]).toMatchObject({ text: "It is cold.", finishReason: "stop" });
    expect(answers[1]!.promptTokens).toBeGreaterThan(answers[0]!.promptTokens);
  });

  it("knows its commands", async () => {
    const lines = [
      "/help",
      "/retry",
      "/undo",
      "What is the opposite of hot?",
      "/retry",
      "/undo",
      "/system Be brief.",
      "/system",
      "/set top_k 5",
      "/set",
      "/set tempreture 1",
      "/set temperature hot",
      "/plan",
      "/rest",
      "/reset",
      "/quit",
      "What is the opposite of hot?",
    ];
    const { code, stdout, stderr } = await runCli(greedy, { stdin: `${lines.join("\n")}\n` });
    expect(code).toBe(0);
    expect(stdout).toBe("It is cold.\nIt is cold.\n");
    for (const said of [
      /\/retry +answer the last/,
      /nothing to retry/,
      /nothing to undo/,
      /taken back: What is/,
      /Be brief\./,
      /top-k 5/,
      /did you mean temperature/,
      /cannot be "hot"/,
      /KV cache/,
      /did you mean \/reset/,
    ])
      expect(stderr).toMatch(said);
  });

  it("leaves the oldest turns out when they no longer fit, and goes on", async () => {
    const question = "Tell me a story about a brave fox who lives in a forest.";
    const { code, stdout, stderr } = await runCli([...onDemo, "--ctx", "256", "--max-tokens", "60"], {
      stdin: `${question}\n`.repeat(4),
    });
    expect(code).toBe(0);
    expect(stdout.trim().length).toBeGreaterThan(100);
    expect(stderr).toMatch(/oldest .* left out/);
  });

  it("stops an answer at SIGINT and leaves at the second one, with 130", async () => {
    let sent = 0;
    const interrupted = await runCli([...greedy, "--ignore-eos", "--threads", "1"], {
      stdin: "Tell me a story.\nTell me a story.\n",
      onStdout: (child) => {
        const again = setInterval(() => {
          if (sent++ < 2) child.kill("SIGINT");
          else clearInterval(again);
        }, 100);
      },
    });
    expect(interrupted.code).toBe(130);
    expect(interrupted.stdout.length).toBeGreaterThan(0);
  });

  it("refuses a model without a chat template, before anything is asked", async () => {
    const bare = join(folder, "bare");
    cpSync(demo, bare, { recursive: true });
    const config = JSON.parse(readFileSync(join(demo, "tokenizer_config.json"), "utf8")) as Record<string, unknown>;
    delete config.chat_template;
    writeFileSync(join(bare, "tokenizer_config.json"), JSON.stringify(config));
    const result = await runCli(["chat", "--model", bare], { stdin: "Hi\n" });
    expect(result).toMatchObject({ code: 1, stdout: "" });
    expect(result.stderr).toMatch(/no chat template.*exllama generate/s);
    const completion = await runHere(["generate", "--model", bare, "--prompt", "Once upon a", "--max-tokens", "4"]);
    expect(completion.code).toBe(0);
  });

  it("ends with the failure when a message cannot be answered", async () => {
    const result = await runCli([...onDemo, "--ctx", "256"], { stdin: `${"word ".repeat(400)}\nHi\n` });
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(/context of 256/);
  });
});
