// Checkpoints that are not like the embedded one: without a tokenizer, or not on this machine.

import { readFile, stat } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { demoModel, loadModel, plan } from "../../src/index.js";
import { fixture } from "../support/fixtures.js";

describe("a model without a tokenizer", () => {
  it("runs on ids, and says what is missing when it is asked for text", async () => {
    await using model = await loadModel(fixture("tiny/llama-mha"), { ctx: 256 });
    expect(model.info.hasChatTemplate).toBe(false);
    const { ids, text } = await model.generate([1, 2, 3], { maxTokens: 5, temperature: 0, ignoreEos: true }).result;
    expect(ids).toHaveLength(5);
    expect(text).toBe("");
    for (const ask of [
      () => model.generate("Once").result,
      () => model.generate([1, 2], { stop: "fox" }).result,
      () => model.chat([{ role: "user", content: "hi" }]).result,
      () => model.tokenize("Once"),
      () => model.detokenize([1]),
      () => model.tokenizeChat([{ role: "user", content: "hi" }]),
    ])
      await expect(ask()).rejects.toMatchObject({ code: "TOKENIZER" });
  });
});

describe("a remote checkpoint", () => {
  it("is planned like a local one, and not loaded", async () => {
    const server = createServer(async (request, response) => {
      const path = join(demoModel, request.url?.slice(1) ?? "");
      const size = await stat(path).then(
        (file) => file.size,
        () => null,
      );
      if (size === null) return void response.writeHead(404).end();
      const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "") ?? [];
      const bytes = await readFile(path);
      if (from === undefined) return void response.writeHead(200, { "content-length": size }).end(bytes);
      const part = bytes.subarray(Number(from), Number(to) + 1);
      response.writeHead(206, { "content-range": `bytes ${from}-${Number(from) + part.length - 1}/${size}` }).end(part);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    try {
      const options = { devices: "a=1GiB,b=1GiB", gpuSplit: "0.6,0.6", ctx: 512 };
      expect(await plan(address, options)).toEqual(await plan(demoModel, options));
      await expect(loadModel(address)).rejects.toMatchObject({ code: "USAGE", message: expect.stringContaining("remote") });
    } finally {
      server.close();
    }
  });
});
