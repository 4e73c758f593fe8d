// The caller's event loop is never held for more than 20 ms, whatever the engine does. A
// program of its own is watched (programs/event-loop.mjs), as vitest's process has work besides.

import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { packageRoot } from "../../src/paths.js";

const MOST_MS = 20;

describe.each(["process", "thread"])("the caller's event loop, engine in a %s", (engine) => {
  it("is never held, and the probe would see it", async () => {
    const program = join(packageRoot, "test/e2e/programs/event-loop.mjs");
    const { stdout } = await promisify(execFile)(process.execPath, [program, engine]);
    const { busyLoop, sleep, ...phases } = JSON.parse(stdout) as Record<string, number>;
    expect(busyLoop).toBeGreaterThan(MOST_MS);
    expect(sleep).toBeGreaterThan(MOST_MS);
    for (const [phase, held] of Object.entries(phases)) expect(held, phase).toBeLessThan(MOST_MS);
  });
});
