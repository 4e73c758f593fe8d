// LoRA adapters on the command line.

import { describe, expect, it } from "vitest";
import { fixture } from "../support/fixtures.js";
import { jsonOf } from "../support/run-cli.js";
import { runHere } from "../support/run-here.js";

const pirate = ["--adapter", `pirate=${fixture("lora-pirate")}`];
const brief = ["--adapter", `brief=${fixture("lora-brief")}`];
const ask = [
  "generate",
  "--chat",
  "--prompt",
  "Tell me a story about a fox.",
  "--temperature",
  "0",
  "--max-tokens",
  "12",
  "--json",
];

describe("exllama with adapters", () => {
  it("answers with what is loaded, or with what is asked for", async () => {
    const answer = async (...args: string[]) => jsonOf<{ text: string; ids: number[] }>(await runHere([...ask, ...args]));
    expect((await answer(...pirate)).text).toMatch(/^Arr, my friend/);
    const { ids } = await answer();
    const both = await answer(...pirate, ...brief, "--use-adapter", "pirate=0.7", "--use-adapter", "brief=0.5");
    expect(both.ids).not.toEqual(ids);
  });

  it("shows them in the plan", async () => {
    const args = ["plan", "--backend", "cpu", ...pirate, ...brief];
    const { stdout } = await runHere(args);
    expect(stdout).toMatch(/adapters +pirate \(rank 8\), brief \(rank 4\): [\d.]+ \wiB of the weights/);
    const json = jsonOf<{ adapters: unknown; devices: { adapters: number; weights: number }[] }>(
      await runHere([...args, "--json"]),
    );
    expect(json.adapters).toEqual([
      { name: "pirate", rank: 8 },
      { name: "brief", rank: 4 },
    ]);
    expect(json.devices[0]!.adapters).toBeGreaterThan(600_000);
    expect(json.devices[0]!.adapters).toBeLessThan(json.devices[0]!.weights);
    const gpu = jsonOf<typeof json>(await runHere(["plan", "--devices", "24GiB", ...pirate, "--json"]));
    expect(gpu.devices[0]!.adapters).toBeGreaterThan(600_000);
  });

  it("scores texts with them", async () => {
    const logits = async (...args: string[]) =>
      jsonOf<{ logits: number[][] }>(await runHere(["logits", "--prompt-ids", "1,4025,3", "--json", ...args])).logits;
    expect(await logits(...pirate)).not.toEqual(await logits());
  });

  it.each([
    ["a path that is not there", ["--adapter", "a=/nowhere"], 1, /there is no adapter at \/nowhere/],
    ["a pair that is none", ["--adapter", "pirate"], 2, /NAME=PATH/],
    ["one that is not loaded", [...pirate, "--use-adapter", "brief"], 2, /no adapter "brief"/],
    ["a weight that is none", [...pirate, "--use-adapter", "pirate=lots"], 2, /not a number/],
  ])("refuses %s", async (_, args, code, message) => {
    const result = await runHere([...ask.filter((arg) => arg !== "--json"), ...args]);
    expect(result.stderr).toMatch(message);
    expect(result.code).toBe(code);
  });
});
