import { describe, expect, it } from "vitest";
import { runCli } from "../support/run-cli.js";

describe("exllama devices", () => {
  it("shows this computer, and every GPU or why there is none", async () => {
    const { code, stdout, stderr } = await runCli(["devices"]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/cpu +this computer/);
    if (!/^cuda:0/m.test(stdout)) expect(stderr).toMatch(/^no GPU can be used: /);
  });

  it("says the same as one JSON line", async () => {
    const { stdout } = await runCli(["devices", "--json"]);
    const list = JSON.parse(stdout) as {
      devices: { id: string; total: number; free: number }[];
      problem: { code: string } | null;
    };
    const cpu = list.devices.find(({ id }) => id === "cpu")!;
    expect(cpu.free).toBeGreaterThan(0);
    expect(cpu.free).toBeLessThanOrEqual(cpu.total);
    if (list.devices.length === 1) expect(list.problem?.code).toMatch(/^CUDA_/);
  });
});

describe("made-up models", () => {
  it("are planned like others", async () => {
    const { code, stdout } = await runCli([
      "plan",
      "--model",
      "synthetic:llama-13b",
      "--devices",
      "24GiB",
      "--ctx",
      "2048",
      "--json",
    ]);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ ok: true, context: 2048 });
  });

  it.each([
    [["bench", "--synthetic", "llama-9b"], /no synthetic model "llama-9b"/],
    [["bench", "--synthetic", "llama-7b", "--bits", "5"], /5 bits/],
    [["bench", "--bits", "4"], /--synthetic/],
    [["bench", "--synthetic", "llama-7b", "--model", "x"], /two models/],
  ])("%j is not understood", async (args, message) => {
    const { code, stderr } = await runCli(args);
    expect(code).toBe(2);
    expect(stderr).toMatch(message);
  });
});
