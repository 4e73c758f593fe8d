// npm start: the first thing a person sees.

import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { packageRoot } from "../../src/paths.js";
import { oneCore } from "../support/one-core.js";

function start(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const script = join(packageRoot, "scripts/start.js");
  return spawnSync(process.execPath, [script, ...args], { encoding: "utf8", env: { ...process.env, ...oneCore } });
}

describe("npm start", () => {
  it("prints the memory plan, then an answer", () => {
    const { status, stdout, stderr } = start();
    expect(stderr).toBe("");
    expect(status).toBe(0);
    expect(stdout).toMatch(/weights.*KV cache.*largest contexts.*› Tell me a story.*deer.*tokens at \d+ per second/s);
  });

  it("takes a prompt", () => {
    expect(start("What is the opposite", "of hot?").stdout).toMatch(/› What is the opposite of hot\?\n\n\S.*\n/);
  });
});
