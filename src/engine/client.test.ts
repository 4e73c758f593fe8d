import { getEventListeners } from "node:events";
import { afterEach, describe, expect, it, vi } from "vitest";
import { type FakeLink, fakeLink } from "../../test/support/fake-engine.js";
import { UsageError } from "../errors.js";
import { loadOver } from "./client.js";
import { EngineDiedError, GenerationCancelledError, ModelDisposedError } from "./errors.js";
import type { Generation, GenerationEvent, Model } from "./model.js";

describe("a model over a link", () => {
  it("has the engine's plan and info", async () => {
    const { model, link } = await load();
    expect(model.info).toEqual(link.engine.info);
    expect(model.plan).toEqual(link.engine.plan);
  });

  it("streams an answer and gives the whole", async () => {
    const { model } = await load();
    const generation = model.generate("go", { maxTokens: 5 });
    expect(await read(generation)).toBe("tick ".repeat(5));
    expect(await generation.result).toMatchObject({ text: "tick ".repeat(5), finishReason: "length" });
  });

  it("tells the ids, and the log-probabilities where they are asked", async () => {
    const { model } = await load();
    const plain: GenerationEvent[] = [];
    for await (const event of model.generate("go", { maxTokens: 3 }).events()) plain.push(event);
    expect(plain.flatMap(({ ids }) => ids)).toEqual([1, 1, 1]);
    expect(plain.every(({ tokens }) => tokens === undefined)).toBe(true);
    const told: GenerationEvent[] = [];
    for await (const event of model.generate("go", { maxTokens: 3, logprobs: 0 }).events()) told.push(event);
    expect(told.flatMap(({ tokens }) => tokens ?? []).map(({ logprob }) => logprob)).toEqual([-0.5, -0.5, -0.5]);
  });

  it("completes an answer that nobody reads", async () => {
    const { model } = await load();
    expect(await model.generate("go").result).toMatchObject({ promptTokens: 1 });
  });

  it("keeps answers of overlapping requests apart", async () => {
    const { model } = await load();
    const texts = await Promise.all([1, 20, 300].map((maxTokens) => read(model.generate("go", { maxTokens }))));
    expect(texts.map((text) => text.length / 5)).toEqual([1, 20, 300]);
  });

  it("has few messages under way for a caller that does not read, and loses nothing", async () => {
    const { model, link } = await load();
    const generation = model.generate("go", { maxTokens: 2000 });
    await generation.result;
    expect(await read(generation)).toBe("tick ".repeat(2000));
    expect(link.received.filter((message) => message.type === "step").length).toBeLessThanOrEqual(2001);
  });

  it("listens once to a signal that many requests share, and not at all when they are over", async () => {
    const { model, link } = await load();
    const controller = new AbortController();
    const { signal } = controller;
    const some = Array.from({ length: 40 }, () => model.generate("go", { maxTokens: 3, signal }));
    expect(getEventListeners(signal, "abort")).toHaveLength(1);
    await Promise.all(some.map(({ result }) => result));
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
    const endless = Array.from({ length: 40 }, () => model.generate("go", { maxTokens: 1e9, signal }));
    controller.abort(new Error("enough"));
    for (const { result } of endless) await expect(result).rejects.toThrow("enough");
    await vi.waitFor(() => expect(link.engine.running).toBe(0));
  });

  it("frees the sequence when the loop is left, and says so in result", async () => {
    const { model, link } = await load();
    const generation = model.generate("go", { maxTokens: 1e9 });
    for await (const _ of generation) break;
    expect(link.engine.running).toBe(0);
    await expect(generation.result).rejects.toBeInstanceOf(GenerationCancelledError);
  });

  it("frees the sequence when an iterator is given back unread or while it waits", async () => {
    const { model, link } = await load();
    const unread = model.generate("go", { maxTokens: 1e9 })[Symbol.asyncIterator]();
    await unread.return?.();
    const waiting = model.generate("go", { maxTokens: 1e9 })[Symbol.asyncIterator]();
    const next = waiting.next();
    await waiting.return?.();
    expect(await next).toEqual({ done: true, value: undefined });
    expect(link.engine.running).toBe(0);
  });

  it("is read by one loop only", async () => {
    const { model } = await load();
    const generation = model.generate("go");
    await read(generation);
    await expect(read(generation)).rejects.toMatchObject({ code: "GENERATION_READ_TWICE" });
  });

  it("rejects with the signal's reason, and the engine frees the sequence", async () => {
    const { model, link } = await load();
    const controller = new AbortController();
    const reason = new Error("changed my mind");
    const generation = model.generate("go", { maxTokens: 1e9, signal: controller.signal });
    const reading = read(generation, () => controller.abort(reason));
    await expect(reading).rejects.toBe(reason);
    await expect(generation.result).rejects.toBe(reason);
    await until(() => link.engine.running === 0);
  });

  it("asks the engine nothing when the signal was aborted before", async () => {
    const { model, link } = await load();
    const signal = AbortSignal.abort("no");
    await expect(model.generate("go", { signal }).result).rejects.toBe("no");
    await expect(model.logits([1], { signal })).rejects.toBe("no");
    await expect(model.logprobs([1], { signal })).rejects.toBe("no");
    expect(link.engine.asked).toEqual([]);
  });

  it("passes the engine's errors on as their class", async () => {
    const { model } = await load();
    const generation = model.generate("");
    await expect(read(generation)).rejects.toBeInstanceOf(UsageError);
    await expect(generation.result).rejects.toMatchObject({ code: "USAGE", hint: "write one", details: { at: 3 } });
  });

  it("refuses an option that cannot cross, and holds nothing for it", async () => {
    const { model, link } = await load();
    await expect(model.generate("go", { stop: (() => "x") as unknown as string }).result).rejects.toBeInstanceOf(UsageError);
    expect(link.held()).toBe(false);
  });

  it("answers the smaller questions", async () => {
    const { model, link } = await load();
    expect(await model.tokenize("ab")).toEqual([97, 98]);
    expect(await model.detokenize([97, 98])).toBe("ab");
    expect(await model.tokenizeChat([{ role: "user", content: "hi" }])).toEqual([1, 2]);
    expect(await model.logits([1], { last: 3 })).toEqual([0, 1, 2].map((row) => Float32Array.of(row, 0, 0, 0)));
    expect(await model.logprobs([1, 2, 3])).toEqual(new Float32Array(2));
    expect(await model.embed(["abc", [1, 2]])).toEqual([Float32Array.of(3), Float32Array.of(2)]);
    expect(await model.status()).toEqual(link.engine.status());
  });

  it("keeps the event loop alive exactly while something is asked of it", async () => {
    const { model, link } = await load();
    expect(link.held()).toBe(false);
    const { result } = model.generate("go");
    expect(link.held()).toBe(true);
    await result;
    expect(link.held()).toBe(false);
  });
});

describe("an engine that dies", () => {
  it("ends every request in flight, and those to come, with a typed error", async () => {
    const { model, link } = await load();
    const generation = model.generate("go", { maxTokens: 1e9 });
    const reading = read(generation, () => link.die("SIGKILL"));
    await expect(reading).rejects.toBeInstanceOf(EngineDiedError);
    await expect(generation.result).rejects.toMatchObject({ code: "ENGINE_DIED", details: { signal: "SIGKILL", pid: 1 } });
    await expect(model.tokenize("a")).rejects.toBeInstanceOf(EngineDiedError);
    await expect(read(model.generate("go"))).rejects.toBeInstanceOf(EngineDiedError);
    await model.dispose();
  });

  it("lets a loop that is left end all the same", async () => {
    const { model, link } = await load();
    for await (const _ of model.generate("go", { maxTokens: 1e9 })) {
      link.die("SIGSEGV");
      break;
    }
    await expect(model.detokenize([1])).rejects.toMatchObject({ details: { signal: "SIGSEGV" } });
  });

  it("while loading rejects the load", async () => {
    const link = fakeLink(() => new Promise(() => {}));
    const loading = loadOver(link, "x", {});
    setImmediate(() => link.die("SIGKILL"));
    await expect(loading).rejects.toBeInstanceOf(EngineDiedError);
  });
});

describe("dispose", () => {
  afterEach(() => void vi.useRealTimers());

  it("frees the engine once, rejects what is in flight, and refuses what comes", async () => {
    const { model, link } = await load();
    const { result } = model.generate("go", { maxTokens: 1e9 });
    const disposals = [model.dispose(), model.dispose(), model[Symbol.asyncDispose]()];
    await expect(result).rejects.toBeInstanceOf(ModelDisposedError);
    await Promise.all(disposals);
    expect(link.engine).toMatchObject({ disposals: 1, running: 0 });
    expect(link.killed()).toBe(false);
    expect(() => model.generate("go")).toThrow(ModelDisposedError);
    await expect(model.tokenize("a")).rejects.toBeInstanceOf(ModelDisposedError);
  });

  it("kills an engine that does not end by itself", async () => {
    const { model, link } = await load();
    link.engine.stuck = true;
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const disposal = model.dispose();
    await vi.advanceTimersByTimeAsync(60_000);
    await disposal;
    expect(link.killed()).toBe(true);
  });
});

describe("loading", () => {
  it("reports progress, in at most a few hundred messages", async () => {
    const parts: number[] = [];
    const link = fakeLink(async (_path, _options, { onProgress }) => {
      for (let loadedBytes = 0; loadedBytes <= 1e5; loadedBytes++) onProgress({ loadedBytes, totalBytes: 1e5 });
      return link.engine;
    });
    await loadOver(link, "x", {}, { onProgress: ({ loadedBytes }) => parts.push(loadedBytes) });
    expect(parts.at(-1)).toBe(1e5);
    expect(parts.length).toBeLessThan(300);
  });

  it("ends a load whose progress function throws, with what it threw", async () => {
    const link = fakeLink(async (_path, _options, { onProgress, signal }) => {
      onProgress({ loadedBytes: 1, totalBytes: 2 });
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      throw signal.reason;
    });
    const thrown = new Error("the caller's own");
    const onProgress = () => {
      throw thrown;
    };
    await expect(loadOver(link, "x", {}, { onProgress })).rejects.toBe(thrown);
  });

  it("that is aborted ends the engine and rejects with the signal's reason", async () => {
    const controller = new AbortController();
    const link = fakeLink(() => new Promise(() => {}));
    const loading = loadOver(link, "x", {}, { signal: controller.signal });
    setImmediate(() => controller.abort("enough"));
    await expect(loading).rejects.toBe("enough");
    expect(link.killed()).toBe(true);
  });

  it("that fails ends the engine and rejects with its error", async () => {
    const link = fakeLink(async () => {
      throw new UsageError("no such folder");
    });
    await expect(loadOver(link, "x", {})).rejects.toThrow(/no such folder/);
    expect(link.killed()).toBe(true);
  });
});

async function load(): Promise<{ model: Model; link: FakeLink }> {
  const link = fakeLink();
  return { model: await loadOver(link, "fake", {}), link };
}

async function read(generation: Generation, onPiece: () => void = () => {}): Promise<string> {
  let text = "";
  for await (const piece of generation) {
    text += piece;
    onPiece();
  }
  return text;
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}
