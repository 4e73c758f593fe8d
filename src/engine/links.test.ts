import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { packageRoot } from "../paths.js";
import { loadOver } from "./client.js";
import { EngineDiedError } from "./errors.js";
import { startProcess } from "./process-link.js";
import { startThread } from "./thread-link.js";

const entry = join(packageRoot, "test/support/stand-in-engine.mjs");

describe.each([
  ["process", startProcess],
  ["thread", startThread],
] as const)("an engine in a %s", (kind, startEngine) => {
  it("that ends by itself is an error with its exit code and last words", async () => {
    const error = await loadOver(startEngine(entry), "exit", {}).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(EngineDiedError);
    expect(error).toMatchObject({ details: { kind, exitCode: 3, signal: null, stderr: "it was time" } });
  });

  it("that crashes is an error which says what it wrote", async () => {
    const loading = loadOver(startEngine(entry), "throw", {});
    await expect(loading).rejects.toMatchObject({
      code: "ENGINE_DIED",
      details: { exitCode: 1, stderr: expect.stringContaining("a bug in the engine") },
    });
  });

  it("keeps its output to itself, however much it is", async () => {
    const link = startEngine(entry);
    const model = await loadOver(link, "shout", {});
    link.kill();
    const { stderr } = await link.ended;
    expect(stderr).toMatch(/^error \d+/);
    expect(stderr).not.toContain("out");
    await expect(model.tokenize("a")).rejects.toBeInstanceOf(EngineDiedError);
  });

  it("is killed when its load is aborted", async () => {
    const link = startEngine(entry);
    const controller = new AbortController();
    const loading = loadOver(link, "hang", {}, { signal: controller.signal });
    setTimeout(() => controller.abort("enough"), 100);
    await expect(loading).rejects.toBe("enough");
    expect(await link.ended).toMatchObject({ kind });
  });
});

describe("a thread that cannot be started", () => {
  it("is an engine that died", async () => {
    await expect(loadOver(startThread("/no/such/file.js"), "x", {})).rejects.toBeInstanceOf(EngineDiedError);
  });
});

describe("a process that cannot be started", () => {
  it("is an engine that died", async () => {
    await expect(loadOver(startProcess("/no/such/file.js"), "x", {})).rejects.toMatchObject({
      details: { exitCode: 1, stderr: expect.stringContaining("file.js") },
    });
  });
});
