// What happens when the engine is killed, and when its parent is.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { loadOver } from "../../src/engine/client.js";
import { startProcess } from "../../src/engine/process-link.js";
import { demoModel, EngineDiedError, loadModel } from "../../src/index.js";
import { distFile, packageRoot } from "../../src/paths.js";
import { childrenOf, isRunning, until } from "../support/processes.js";

const OPTIONS = { ctx: 512, threads: 1 } as const;

describe("a killed engine", () => {
  it.each(["SIGKILL", "SIGTERM"] as const)(
    "(%s) ends its requests with a typed error, and the program loads again",
    async (signal) => {
      const model = await loadModel(demoModel, OPTIONS);
      const [pid = 0] = childrenOf(process.pid);
      const generation = model.generate("Once upon a time", { maxTokens: 480, ignoreEos: true });
      const other = model.logprobs([1, 2, 3]).catch((error: unknown) => error);
      const error = await (async () => {
        for await (const _ of generation) process.kill(pid, signal);
      })().catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(EngineDiedError);
      expect(error).toMatchObject({ code: "ENGINE_DIED", details: { kind: "process", pid, signal } });
      await expect(generation.result).rejects.toBe(error);
      expect(await other).toSatisfy((thrown) => thrown === error || thrown instanceof Float32Array);
      await expect(model.tokenize("a")).rejects.toBeInstanceOf(EngineDiedError);
      await model.dispose();

      const again = await loadModel(demoModel, OPTIONS);
      expect((await again.generate("Once", { maxTokens: 4, ignoreEos: true }).result).ids).toHaveLength(4);
      await again.dispose();
      expect(childrenOf(process.pid)).toEqual([]);
    },
  );

  it("ends a load with a typed error", async () => {
    const loading = loadModel(demoModel, OPTIONS).catch((error: unknown) => error);
    await until(() => childrenOf(process.pid).length === 1);
    for (const pid of childrenOf(process.pid)) process.kill(pid, "SIGKILL");
    expect(await loading).toBeInstanceOf(EngineDiedError);
  });
});

describe("an engine", () => {
  it("may be a program of a test's own, as the one that GPU tests poison", async () => {
    const model = await loadOver(startProcess(distFile("gpu/poisoned-engine.js")), demoModel, OPTIONS);
    // Nothing is launched on the CPU, and so nothing is poisoned.
    expect((await model.generate("Once", { maxTokens: 4, ignoreEos: true }).result).ids).toHaveLength(4);
    await model.dispose();
    expect(childrenOf(process.pid)).toEqual([]);
  });

  it("does not keep a program running that is done, and ends with it", async () => {
    const { engine, program } = await start("forgets-dispose");
    const [code] = await once(program, "exit");
    expect(code).toBe(0);
    await until(() => !isRunning(engine));
  });

  it.each(["SIGKILL", "SIGTERM"] as const)("ends when its program is ended by %s in the middle of an answer", async (signal) => {
    const { engine, program } = await start("never-ends");
    program.kill(signal);
    await once(program, "exit");
    await until(() => !isRunning(engine));
  });

  it("leaves Ctrl-C, which every process of the terminal gets, to its program", async () => {
    const { engine, program } = await start("outlives-interrupt");
    process.kill(engine, "SIGINT");
    program.kill("SIGINT");
    const [code] = await once(program, "exit");
    expect(code).toBe(0);
  });
});

/** Starts a program of test/e2e/programs and waits until it has told its engine's process id. */
async function start(name: string) {
  const program = spawn(process.execPath, [join(packageRoot, "test/e2e/programs", `${name}.mjs`)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(program.stdout, "data");
  const [engine = 0] = childrenOf(program.pid ?? 0);
  return { program, engine };
}
