// exllama shard on the embedded model.

import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { fixture } from "../support/fixtures.js";
import { jsonOf, runCli } from "../support/run-cli.js";

const demo = fixture("demo-gptq-4bit-g128");
const folder = mkdtempSync(join(tmpdir(), "exllama-shard-cli-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("exllama shard", () => {
  it("makes a checkpoint that answers as the whole one does", async () => {
    const out = join(folder, "sharded");
    const made = jsonOf<{ shards: { file: string; bytes: number }[] }>(
      await runCli(["shard", demo, "--max-size", "3MiB", "--out", out, "--json"]),
    );
    expect(made.shards.length).toBeGreaterThan(1);
    expect(made.shards.every(({ bytes }) => bytes <= 3 * 2 ** 20)).toBe(true);
    const answer = async (model: string) =>
      jsonOf<{ ids: number[] }>(
        await runCli(["generate", "--model", model, "--prompt", "Once", "--max-tokens", "8", "--temperature", "0", "--json"]),
      ).ids;
    expect(await answer(out)).toEqual(await answer(demo));
    const again = await runCli(["shard", demo, "--out", out]);
    expect(again.code).toBe(1);
    expect(again.stderr).toMatch(/exists already/);
    expect(readdirSync(folder)).toEqual(["sharded"]);
  });

  it.each([
    ["a size that is none", ["--out", join(folder, "x"), "--max-size", "20G"], /"20G" is not a size/],
    ["a size that holds nothing", ["--out", join(folder, "x"), "--max-size", "1B"], /at least 4096 bytes/],
    ["no place to write to", [], /--out/],
  ])("refuses %s", async (_, args, message) => {
    const result = await runCli(["shard", demo, ...args]);
    expect(result.stderr).toMatch(message);
    expect(result).toMatchObject({ code: 2, stdout: "" });
  });
});
