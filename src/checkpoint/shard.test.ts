import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { fixture } from "../../test/support/fixtures.js";
import { headerOf, safetensorsBytes, type WrittenTensor, writeWeights } from "../../test/support/safetensors-writer.js";
import type { TensorInfo } from "./checkpoint.js";
import { openCheckpoint } from "./local.js";
import { parseSafetensorsHeader, readHeaderLength } from "./safetensors.js";
import { shardCheckpoint } from "./shard.js";
import { layOutShards, shardIndex } from "./shard-layout.js";

let folder: string;
let source: string;
let out: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "exllama-shard-"));
  source = join(folder, "source");
  out = join(folder, "out");
  mkdirSync(source);
  writeFileSync(join(source, "config.json"), "{}");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const bytesOf = (length: number, seed: number) => Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 7) & 255);
const tensor = (name: string, length: number, seed: number): WrittenTensor => ({
  name,
  dtype: "U8",
  shape: [length],
  data: bytesOf(length, seed),
});
const tensors = [5000, 1, 0, 3000, 12000, 700, 2500].map((length, i) => tensor(`layer.${i}.wëight`, length, i));

/** A digest of each tensor's bytes. */
async function contents(of: string): Promise<Map<string, string>> {
  const checkpoint = await openCheckpoint(of);
  try {
    const all = new Map<string, string>();
    for (const info of checkpoint.tensors.values()) {
      const into = Buffer.alloc(info.bytes);
      await checkpoint.read(info, 0, into);
      all.set(`${info.name} ${info.dtype} ${info.shape}`, createHash("sha256").update(into).digest("hex"));
    }
    return all;
  } finally {
    await checkpoint.close();
  }
}

const leftovers = () => readdirSync(folder).filter((name) => name !== "source");

describe("shardCheckpoint", () => {
  it.each([1, 3])("copies every byte of a checkpoint of %i files into files of the size that was asked for", async (files) => {
    writeWeights(source, tensors, files);
    const seen: number[] = [];
    const { shards } = await shardCheckpoint({
      folder: source,
      out,
      most: 8192,
      onProgress: ({ writtenBytes }) => seen.push(writtenBytes),
    });
    expect(await contents(out)).toEqual(await contents(source));
    for (const { file, bytes, tensors: count } of shards) {
      expect(readFileSync(join(out, file)).byteLength).toBe(bytes);
      if (count > 1) expect(bytes).toBeLessThanOrEqual(8192);
    }
    expect(shards.filter(({ bytes }) => bytes > 8192).map(({ tensors: count }) => count)).toEqual([1]);
    expect(seen.at(-1)).toBe(shards.reduce((sum, { bytes }) => sum + bytes, 0));
    expect(leftovers()).toEqual(["out"]);
  });

  it("makes one file of what fits into one", async () => {
    writeWeights(source, tensors);
    const { shards } = await shardCheckpoint({ folder: source, out, most: 2 ** 30 });
    expect(shards.map(({ file }) => file)).toEqual(["model-00001-of-00001.safetensors"]);
    expect(await contents(out)).toEqual(await contents(source));
  });

  it("keeps the metadata in every file, and brings the small files along but no other weights", async () => {
    const header = { __metadata__: { format: "pt", "a key": 'with "quotes"' }, ...headerOf(tensors) };
    writeFileSync(join(source, "model.safetensors"), safetensorsBytes(tensors, header));
    writeFileSync(join(source, "tokenizer.model"), "words");
    writeFileSync(join(source, "pytorch_model.bin"), "other weights");
    mkdirSync(join(source, "folder"));
    const { copied, shards } = await shardCheckpoint({ folder: source, out, most: 6000 });
    expect(copied).toEqual(["config.json", "tokenizer.model"]);
    expect(readFileSync(join(out, "tokenizer.model"), "utf8")).toBe("words");
    expect(readdirSync(out)).toHaveLength(copied.length + shards.length + 1);
    for (const { file } of shards) {
      const bytes = readFileSync(join(out, file));
      const json = bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE())).toString();
      expect((JSON.parse(json) as typeof header).__metadata__).toEqual(header.__metadata__);
    }
  });

  it("splits a real checkpoint", async () => {
    await shardCheckpoint({ folder: fixture("tiny/llama-gqa-tied"), out, most: 100_000 });
    expect(await contents(out)).toEqual(await contents(fixture("tiny/llama-gqa-tied")));
  });

  it.each([
    ["a folder", () => mkdirSync(out)],
    ["a file", () => writeFileSync(out, "mine")],
  ])("overwrites nothing: %s is there", async (_, make) => {
    writeWeights(source, tensors);
    make();
    await expect(shardCheckpoint({ folder: source, out, most: 8192 })).rejects.toMatchObject({ code: "SHARD" });
    expect(leftovers()).toEqual(["out"]);
  });

  it("leaves nothing behind when it is stopped", async () => {
    writeWeights(source, tensors);
    const controller = new AbortController();
    const reason = new Error("enough");
    const onProgress = ({ writtenBytes, totalBytes }: { writtenBytes: number; totalBytes: number }) => {
      if (writtenBytes > totalBytes / 2) controller.abort(reason);
    };
    await expect(shardCheckpoint({ folder: source, out, most: 8192, signal: controller.signal, onProgress })).rejects.toBe(
      reason,
    );
    expect(leftovers()).toEqual([]);
  });

  it("leaves nothing behind when the source goes away under it", async () => {
    writeWeights(source, tensors);
    const onProgress = () => truncateSync(join(source, "model.safetensors"), 2000);
    await expect(shardCheckpoint({ folder: source, out, most: 8192, onProgress })).rejects.toMatchObject({
      code: "CHECKPOINT_READ",
    });
    expect(existsSync(out)).toBe(false);
    expect(leftovers()).toEqual([]);
  });

  it("says that there is no place for it, or no checkpoint", async () => {
    writeWeights(source, tensors);
    const nowhere = join(folder, "nowhere", "out");
    await expect(shardCheckpoint({ folder: source, out: nowhere, most: 8192 })).rejects.toMatchObject({ code: "SHARD" });
    await expect(shardCheckpoint({ folder: join(folder, "none"), out, most: 8192 })).rejects.toMatchObject({
      code: "CHECKPOINT_NOT_FOUND",
    });
  });
});

describe("layOutShards", () => {
  const infos = fc
    .array(fc.record({ size: fc.nat(3000), name: fc.string({ minLength: 1, maxLength: 12, unit: "grapheme" }) }), {
      minLength: 1,
      maxLength: 40,
    })
    .map((list) =>
      list.map(
        ({ size, name }, i): TensorInfo => ({
          name: `${name}${i}`,
          dtype: "U8",
          shape: [size],
          file: "x",
          start: 0,
          bytes: size,
        }),
      ),
    );

  it("gives every tensor one place, in order, in valid files that keep to the size", () => {
    fc.assert(
      fc.property(infos, fc.integer({ min: 300, max: 9000 }), (all, most) => {
        const shards = layOutShards(all, most, { format: "pt" });
        expect(shards.flatMap(({ tensors: some }) => some)).toEqual(all);
        for (const { file, tensors: some, header, bytes } of shards) {
          if (some.length > 1) expect(bytes).toBeLessThanOrEqual(most);
          const where = { file, fileBytes: bytes };
          const length = readHeaderLength(header, where);
          expect(8 + length).toBe(header.byteLength);
          const parsed = parseSafetensorsHeader(header.subarray(8), where);
          expect(new Set(parsed.map(({ name }) => name))).toEqual(new Set(some.map(({ name }) => name)));
        }
        const { weight_map: map } = JSON.parse(shardIndex(shards)) as { weight_map: Record<string, string> };
        for (const { file, tensors: some } of shards) for (const { name } of some) expect(map[name]).toBe(file);
      }),
    );
  });
});
