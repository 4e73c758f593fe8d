import { describe, expect, it } from "vitest";
import { ExllamaError } from "../errors.js";
import { type EngineFactory, Host } from "./host.js";
import type { FromEngine } from "./protocol.js";

/** A host whose loads fail with this error, and what it does. */
function failingHost(error: Error): { host: Host; sent: FromEngine[]; finished: Promise<void>; isFinished: () => boolean } {
  const factory = { load: () => Promise.reject(error), plan: () => Promise.reject(error) } as unknown as EngineFactory;
  const sent: FromEngine[] = [];
  let done = false;
  let resolve: () => void;
  const finished = new Promise<void>((take) => {
    resolve = take;
  });
  const finish = () => {
    done = true;
    resolve();
  };
  const host = new Host(factory, { send: async (message) => void sent.push(message), finish });
  return { host, sent, finished, isFinished: () => done };
}

const load = { type: "call", id: 1, call: { op: "load", path: "x", options: {} } } as const;

describe("the engine's host", () => {
  it("answers, then ends, when an error has made its process useless", async () => {
    const { host, sent, finished } = failingHost(new ExllamaError("CUDA_POISONED", "the driver gave up"));
    host.receive(load);
    await finished;
    expect(sent).toMatchObject([{ type: "failed", id: 1, error: { code: "CUDA_POISONED" } }]);
  });

  it("goes on after other errors", async () => {
    const { host, sent, isFinished } = failingHost(new ExllamaError("CUDA_OUT_OF_MEMORY", "too much"));
    host.receive(load);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(sent).toHaveLength(1);
    expect(isFinished()).toBe(false);
  });
});
