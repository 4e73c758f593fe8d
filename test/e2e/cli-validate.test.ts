// exllama validate on the embedded model.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { fixture } from "../support/fixtures.js";
import { jsonOf, runCli } from "../support/run-cli.js";
import { runHere } from "../support/run-here.js";

const folder = mkdtempSync(join(tmpdir(), "exllama-validate-"));
afterAll(() => rmSync(folder, { recursive: true }));
const one = join(folder, "one.json");
writeFileSync(one, "[5]");

describe("exllama validate", () => {
  it("computes a text in every way and finds the same bits", async () => {
    const ids = fixture("val_stories_ids.json");
    const adapter = ["--adapter", `pirate=${fixture("lora-pirate")}`];
    const result = await runCli(["validate", "--ids", ids, "--tokens", "90", "--json", "--engine", "thread", ...adapter]);
    const { ok, tokens, backend, checks } = jsonOf<{
      ok: boolean;
      tokens: number;
      backend: string;
      checks: { check: string; ok: boolean; sameBits: boolean; allowed: number }[];
    }>(result);
    expect({ ok, tokens, backend, code: result.code }).toEqual({ ok: true, tokens: 90, backend: "cpu", code: 0 });
    expect(checks).toHaveLength(6);
    expect(checks.filter(({ allowed }) => allowed === 0).every(({ sameBits }) => sameBits)).toBe(true);
    expect(checks.at(-1)).toMatchObject({ check: "against the exact path", sameBits: false, allowed: 0.005 });
  });

  it.each([
    ["two texts", ["--ids", one, "--text", one], /more than one text/],
    ["a single token", ["--ids", one], /nothing to predict/],
    ["a context", ["--ctx", "512"], /chooses the context/],
    ["a bound of nothing", ["--allowed", "0"], /above 0/],
  ])("refuses %s", async (_, args, message) => {
    const result = await runHere(["validate", ...args]);
    expect(result.stderr).toMatch(message);
    expect(result).toMatchObject({ code: 2, stdout: "" });
  });
});
