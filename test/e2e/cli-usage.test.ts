// What every command has in common: help, mistakes, exit codes, settings.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { buildProgram } from "../../src/cli/program.js";
import { fixture } from "../support/fixtures.js";
import { jsonOf, runCli } from "../support/run-cli.js";
import { runHere } from "../support/run-here.js";

const demo = fixture("demo-gptq-4bit-g128");
const folder = mkdtempSync(join(tmpdir(), "exllama-cli-"));
afterAll(() => rmSync(folder, { recursive: true }));

const { commands } = await buildProgram();

describe("help", () => {
  it("is shown for the asking, with an example", async () => {
    const result = await runCli(["--help"]);
    expect(result).toMatchObject({ code: 0, stderr: "" });
    expect(result.stdout).toMatch(/Examples:/);
    expect((await runHere(["--version"])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it.each(commands.map((command) => [command.name(), command] as const))("of %s teaches by examples", (name, command) => {
    let shown = "";
    command.configureOutput({
      writeOut: (text) => {
        shown += text;
      },
    });
    command.outputHelp();
    expect(shown).toMatch(new RegExp(`Examples:\\n  .*exllama ${name}`));
    expect(shown).toContain("--json");
  });

  it("goes to standard error, with 2, when nothing was asked", async () => {
    const result = await runCli([]);
    expect(result).toMatchObject({ code: 2, stdout: "" });
    expect(result.stderr).toMatch(/Usage: exllama/);
  });
});

describe("mistakes", () => {
  it.each([
    ["a command that is none", ["genrate"], /unknown command 'genrate'.*Did you mean generate\?/s],
    ["an option that is none", ["generate", "--promt", "x"], /unknown option '--promt'.*Did you mean --prompt\?/s],
    ["a value missing", ["generate", "--prompt"], /argument missing/],
    ["a number that is none", ["generate", "--prompt", "x", "--top-k", "many"], /not a whole number/],
    ["a choice that is none", ["generate", "--prompt", "x", "--cache", "q5"], /Allowed choices are f16, q8, q4/],
    [
      "a temperature below zero",
      ["generate", "--prompt", "x", "--temperature", "-1", "--model", demo],
      /temperature cannot be -1/,
    ],
    ["a context that is none", ["generate", "--prompt", "x", "--ctx", "lots"], /neither a number of tokens nor auto or max/],
    ["too many arguments", ["generate", "x"], /too many arguments/],
    [
      "a split that cannot be read",
      ["generate", "--prompt", "x", "--gpu-split", "lots", "--model", demo],
      /"lots" is not a size/,
    ],
  ])("%s: exit code 2, told on standard error", async (_what, args, message) => {
    const result = await runHere(args);
    expect(result).toMatchObject({ code: 2, stdout: "" });
    expect(result.stderr).toMatch(message);
    expect(result.stderr).not.toMatch(/\n\s+at /);
  });

  it("with --json are told on standard output", async () => {
    const unknown = await runHere(["generate", "--promt", "x", "--json"]);
    expect(unknown).toMatchObject({ code: 2, stderr: "" });
    expect(jsonOf(unknown)).toEqual({
      error: { code: "USAGE", message: expect.stringContaining("--promt"), hint: "Did you mean --prompt?" },
    });
    const missing = await runHere(["generate", "--prompt", "x", "--model", "/nonexistent", "--json"]);
    expect(missing).toMatchObject({ code: 1, stderr: "" });
    expect(jsonOf(missing)).toEqual({
      error: { code: "CHECKPOINT_NOT_FOUND", message: expect.any(String), hint: expect.anything() },
    });
  });

  it("show their stack only to those who ask", async () => {
    const args = ["generate", "--prompt", "x", "--model", "/nonexistent"];
    expect((await runHere(args)).stderr).not.toMatch(/\n\s+at /);
    expect((await runHere(args, { EXLLAMA_DEBUG: "1" })).stderr).toMatch(/\n\s+at /);
  });

  it("that fill a context larger than memory are refused before loading", async () => {
    const result = await runHere([
      "generate",
      "--prompt",
      "x",
      "--model",
      demo,
      "--ctx",
      "2048",
      "--cpu-memory",
      "64MiB",
      "--json",
    ]);
    expect(result.code).toBe(1);
    expect(jsonOf<{ error: { code: string } }>(result).error.code).toMatch(/^PLAN_/);
  });
});

describe("settings", () => {
  const config = join(folder, "exllama", "config.json");
  mkdirSync(join(folder, "exllama"));
  const usedContext = async (file: object | string | null, env: Record<string, string>, ...args: string[]): Promise<number> => {
    if (file === null) rmSync(config, { force: true });
    else writeFileSync(config, typeof file === "string" ? file : JSON.stringify(file));
    const all = ["plan", "--model", demo, "--json", ...args];
    return jsonOf<{ context: number }>(await runHere(all, { XDG_CONFIG_HOME: folder, ...env })).context;
  };

  it("come from the command line, then the environment, then config.json", async () => {
    expect(await usedContext({ ctx: 300 }, {})).toBe(300);
    expect(await usedContext({ ctx: 300 }, { EXLLAMA_CTX: "400" })).toBe(400);
    expect(await usedContext({ ctx: 300 }, { EXLLAMA_CTX: "400" }, "--ctx", "500")).toBe(500);
    expect(await usedContext(null, { EXLLAMA_CTX: "" })).toBe(2048);
  });

  it.each([
    ["a name that is none", '{"ctxt": 1}', {}, /"ctxt", which is no setting.*Did you mean "ctx"/s],
    ["a value that is none", '{"ctx": "lots"}', {}, /"ctx" in .* is "lots"/],
    ["what is not JSON", "{", {}, /is not JSON/],
    ["a variable that is none", "{}", { EXLLAMA_THREADS: "few" }, /EXLLAMA_THREADS is "few"/],
    ["a switch that is neither on nor off", "{}", { EXLLAMA_HUGE_PAGES: "maybe" }, /neither true nor false/],
    ["a choice that is none", "{}", { EXLLAMA_CACHE: "q5" }, /EXLLAMA_CACHE is "q5"/],
  ])("with %s are a usage error", async (_what, file, env, message) => {
    writeFileSync(config, file);
    const result = await runHere(["generate", "--prompt", "x", "--model", demo], { XDG_CONFIG_HOME: folder, ...env });
    expect(result).toMatchObject({ code: 2, stdout: "" });
    expect(result.stderr).toMatch(message);
  });
});

describe("colours", () => {
  it("are for people only", async () => {
    const result = await runCli(["generate", "--prompt", "x", "--model", "/nonexistent"]);
    expect(result.stderr).not.toContain("\x1b");
  });
});
