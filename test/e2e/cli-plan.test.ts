// `exllama plan` as other programs use it: one JSON line, exit codes, folders and addresses.

import { describe, expect, it } from "vitest";
import { fixture } from "../support/fixtures.js";
import { jsonOf, runCli } from "../support/run-cli.js";
import { runHere } from "../support/run-here.js";
import { serveFolder } from "../support/serve-folder.js";

const MiB = 2 ** 20;
const demo = fixture("demo-gptq-4bit-g128");
const twoCards = ["--devices", "24GiB,b=24GiB:2GiB"];
const plan = (...args: string[]) => runHere(["plan", "--model", demo, ...args]);

interface PlanJson {
  ok: true;
  context: number;
  splitMode: string;
  largestContext: Record<"f16" | "q8" | "q4", number>;
  devices: Record<"id" | "cap" | "baseline" | "weights" | "kvCache" | "scratch" | "total" | "headroom", number>[];
}

describe("exllama plan --json", () => {
  it("gives every listed device in order, in bytes that add up", async () => {
    const result = await plan(...twoCards, "--gpu-split", "0.6,0.65", "--json");
    expect(result.code).toBe(0);
    const json = jsonOf<PlanJson>(result);
    expect(json).toMatchObject({ ok: true, splitMode: "even", context: 2048, binding: "model limit" });
    expect(json.devices.map(({ id }) => id)).toEqual(["cuda:0", "b"]);
    for (const { cap, baseline, weights, kvCache, scratch, total, headroom } of json.devices) {
      expect(total).toBe(baseline + weights + kvCache + scratch);
      expect(headroom).toBe(cap - total);
      expect(headroom).toBeGreaterThanOrEqual(0);
    }
    expect(json.largestContext.q4).toBeGreaterThan(json.largestContext.f16);
  });

  it("refuses with exit code 1, the device and the shortfall", async () => {
    const result = await plan(...twoCards, "--gpu-split", "0.53,0.53", "--ctx", "2048", "--json");
    expect(result.code).toBe(1);
    const json = jsonOf<Record<string, number>>(result);
    expect(json).toMatchObject({ ok: false, code: "PLAN_DOES_NOT_FIT", device: expect.any(String) });
    expect(json.shortfall).toBe(json.needed! - json.cap!);
    const suggestions = json.suggestions as unknown as { change: string; value: number[] }[];
    const { value } = suggestions.find(({ change }) => change === "gpuSplit")!;
    const split = value.map((bytes) => `${bytes}B`).join(",");
    expect((await plan(...twoCards, "--gpu-split", split, "--ctx", "2048", "--json")).code).toBe(0);
  });

  it("plans for this computer where no device is described", async () => {
    const json = jsonOf<PlanJson>(await plan("--cpu-memory", "1GiB", "--json"));
    expect(json.devices).toEqual([expect.objectContaining({ id: "cpu", cap: 1024 * MiB, excluded: null })]);
  });

  it("takes every option of a plan", async () => {
    const options =
      "--split-mode fill --ctx 1000 --cache q8 --cache-tokens 3000 --prefill-chunk 64 --max-sequences 3 --backend cuda";
    const result = await plan(...twoCards, ...options.split(" "), "--draft", demo, "--rope-scale", "2", "--json");
    const shape = { context: 1000, cacheType: "q8", cacheTokens: 3072, prefillChunk: 64, maxSequences: 3, splitMode: "fill" };
    expect(jsonOf(result)).toMatchObject(shape);
    expect(jsonOf<{ devices: { draft: number }[] }>(result).devices.filter(({ draft }) => draft > 0)).toHaveLength(1);
  });

  it("lifts the model's limit with RoPE scaling only", async () => {
    const refused = await plan(...twoCards, "--ctx", "4096", "--json");
    expect([refused.code, jsonOf(refused).code]).toEqual([1, "PLAN_CONTEXT_ABOVE_MODEL_LIMIT"]);
    const scaled = await plan(...twoCards, "--ctx", "4096", "--rope-scale", "2", "--json");
    expect(jsonOf(scaled)).toMatchObject({ ok: true, context: 4096 });
  });

  it("gives the same line for a remote checkpoint, without reading weights", async () => {
    const served = await serveFolder(demo);
    try {
      const remote = await runHere(["plan", "--model", served.address, ...twoCards, "--json"]);
      expect(remote.stdout).toBe((await plan(...twoCards, "--json")).stdout);
      expect(served.lastWeightFileByte()).toBeLessThan(100_000);
    } finally {
      served.close();
    }
  });

  it.each([
    ["--gpu-split", "20G"],
    ["--gpu-split", "-1"],
    ["--gpu-split", "5,5,5"],
    ["--ctx", "many"],
    ["--ctx", "0"],
    ["--cache", "q5"],
    ["--split-mode", "odd"],
    ["--devices", "24G"],
    ["--cpu-memory", "8GiB"],
    ["--gpu-splitt", "5"],
  ])("exits with 2 for %s %s", async (option, value) => {
    const result = await runHere(["plan", "--model", demo, "--devices", "24GiB,24GiB", `${option}=${value}`, "--json"]);
    expect(result.code).toBe(2);
    expect(jsonOf<{ error: { code: string } }>(result).error.code).toBe("USAGE");
  });
});

describe("exllama plan", () => {
  it("prints a table on standard output", async () => {
    const { code, stdout, stderr } = await runCli(["plan", "--model", demo, ...twoCards]);
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/weights +KV cache +scratch +baseline +total +cap/);
    expect(stdout).toMatch(/is left out: not needed/);
    expect(stdout).not.toContain("\u001b");
  });

  it("prints a refusal on standard error, with options to type", async () => {
    const args = ["plan", "--model", demo, ...twoCards, "--gpu-split", "0.53,0.53", "--ctx", "2048"];
    const { code, stdout, stderr } = await runHere(args);
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(/no plan: .* short\n/s);
    expect(stderr).toMatch(/ {2}--gpu-split \d+MiB/);
  });

  it("names the value that cannot be read", async () => {
    const { code, stderr } = await plan(...twoCards, "--gpu-split", "5,20G");
    expect(code).toBe(2);
    expect(stderr).toMatch(/value 2 of the GPU split "5,20G": "20G" is not a size/);
  });
});
