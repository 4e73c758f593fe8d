// PyTorch's files: read whole where torch.save wrote them, refused by name where they hold anything
// that could run, and never a crash whatever bytes they are made of.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deflateRawSync } from "node:zlib";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { WrittenTensor } from "../../test/support/safetensors-writer.js";
import { floatTensor } from "../../test/support/synthetic-linear.js";
import { PickleWriter, torchEntries, torchFileBytes, type ZipEntry, zipBytes } from "../../test/support/torch-file-writer.js";
import { ExllamaError } from "../errors.js";
import { openTorchFile } from "./torch-file.js";

const tensors: readonly WrittenTensor[] = [
  floatTensor("a", [2, 3], Float64Array.of(1, 2, 3, 4, 5, 6), "f32"),
  floatTensor("b", [4], Float64Array.of(-1, 0.5, 0, 2), "f16"),
  floatTensor("c", [1, 1], Float64Array.of(3), "bf16"),
  floatTensor("nothing", [0, 7], new Float64Array(), "f32"),
];

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "exllama-torch-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function open(bytes: Uint8Array) {
  const path = join(folder, "file.bin");
  writeFileSync(path, bytes);
  return openTorchFile(path);
}

/** Opens and closes; what it threw, or `null`. */
async function fault(bytes: Uint8Array): Promise<ExllamaError | null> {
  try {
    await (await open(bytes)).close();
    return null;
  } catch (error) {
    if (error instanceof ExllamaError) return error;
    throw error;
  }
}

describe("openTorchFile", () => {
  it.each([false, true])("reads what torch.save wrote (with a module's metadata: %s)", async (metadata) => {
    const file = await open(torchFileBytes(tensors, { metadata }));
    expect([...file.tensors.values()].map(({ name, dtype, shape, bytes }) => ({ name, dtype, shape, bytes }))).toEqual(
      tensors.map(({ name, dtype, shape, data }) => ({ name, dtype, shape, bytes: data.length })),
    );
    for (const { name, data } of tensors) {
      const into = new Uint8Array(data.length);
      await file.read(file.tensors.get(name)!, 0, into);
      expect(into).toEqual(data);
    }
    const part = new Uint8Array(8);
    await file.read(file.tensors.get("a")!, 4, part);
    expect(part).toEqual(tensors[0]!.data.subarray(4, 12));
    await expect(file.read(file.tensors.get("b")!, 4, new Uint8Array(8))).rejects.toMatchObject({ code: "CHECKPOINT_READ" });
    await file.close();
    await file.close();
  });

  it("reads more tensors than one byte can number", async () => {
    const many = Array.from({ length: 400 }, (_, i) => floatTensor(`tensor ${i}`, [1], Float64Array.of(i), "f32"));
    const file = await open(torchFileBytes(many));
    expect(file.tensors.size).toBe(400);
    await file.close();
  });

  const state = () => new PickleWriter().raw(0x7d).put().raw(0x28).text("x");
  const first = tensors[0]!;
  it.each<[string, Uint8Array, RegExp]>([
    [
      "a call of the system",
      new PickleWriter().global("posix", "system").raw(0x28).text("true").raw(0x74, 0x52).bytes(),
      /names "posix.system"/,
    ],
    ["eval", new PickleWriter().global("builtins", "eval").bytes(), /names "builtins.eval"/],
    [
      "a name that only begins well",
      new PickleWriter().global("torch", "FloatStorage.from_file").bytes(),
      /names "torch.FloatStorage.from_file"/,
    ],
    ["INST", new PickleWriter().raw(0x28, 0x69).bytes(), /instruction INST/],
    ["OBJ", new PickleWriter().raw(0x28, 0x6f).bytes(), /instruction OBJ/],
    ["NEWOBJ", new PickleWriter().raw(0x81).bytes(), /instruction NEWOBJ/],
    ["STACK_GLOBAL", new PickleWriter().raw(0x93).bytes(), /instruction STACK_GLOBAL/],
    ["an extension", new PickleWriter().raw(0x82, 1).bytes(), /instruction EXT1/],
    ["an instruction that is none", new PickleWriter().raw(0xff).bytes(), /instruction 0xff/],
    ["a newer protocol", Uint8Array.of(0x80, 4, 0x2e), /protocol 4/],
    ["a text instead of a dictionary", new PickleWriter().text("x").bytes(), /something else than a dictionary/],
    ["a number among the tensors", state().integer(3).raw(0x75).bytes(), /"x" is not a tensor/],
    ["a key twice", state().tensor(0, first).text("x").tensor(0, first).raw(0x75).bytes(), /a key stands twice/],
    [
      "a tensor of integers",
      state()
        .tensor(0, { ...first, dtype: "I64", data: new Uint8Array(48) })
        .raw(0x75)
        .bytes(),
      /torch.LongStorage/,
    ],
    [
      "a view across rows",
      state()
        .tensor(0, { ...first, shape: [3, 2] }, [1, 3])
        .raw(0x75)
        .bytes(),
      /is a view/,
    ],
    ["a tensor beyond its storage", state().tensor(0, first, undefined, 1).raw(0x75).bytes(), /reaches beyond its storage/],
    [
      "a shape without end",
      state()
        .tensor(0, { ...first, shape: [2 ** 31 - 1, 2 ** 31 - 1] }, [2 ** 31 - 1, 1])
        .raw(0x75)
        .bytes(),
      /reaches beyond/,
    ],
    ["a storage that is not there", state().tensor(9, first).raw(0x75).bytes(), /storage "9", which is not there/],
    ["a storage of another length", state().tensor(1, first).raw(0x75).bytes(), /storage of 8 bytes; 24 were announced/],
    ["an empty stack", Uint8Array.of(0x80, 2, 0x2e), /more from the stack/],
    ["a mark that was never set", new PickleWriter().raw(0x74).bytes(), /mark that it never set/],
    ["a memory that was never made", new PickleWriter().get(7).bytes(), /never remembered/],
    ["an end without STOP", Uint8Array.of(0x80, 2, 0x7d), /ends too early/],
    ["a text longer than the file", new PickleWriter().raw(0x58, 255, 255, 255, 127).bytes(), /ends too early/],
    ["something behind its end", Uint8Array.of(0x80, 2, 0x7d, 0x2e, 0x2e), /goes on after its end/],
    ["an integer without measure", new PickleWriter().raw(0x8a, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1).bytes(), /beyond 2\^53/],
  ])("refuses a pickle with %s", async (_, pickle, message) => {
    const entries = torchEntries(tensors).map((entry) => (entry.name.endsWith("data.pkl") ? { ...entry, data: pickle } : entry));
    expect(await fault(zipBytes(entries))).toMatchObject({ code: "TORCH_FILE", message: expect.stringMatching(message) });
  });

  const entries = torchEntries(tensors);
  const changed = (change: (entry: ZipEntry) => ZipEntry) => zipBytes(entries.map(change));
  const only = (part: string, change: Partial<ZipEntry>) => (entry: ZipEntry) =>
    entry.name.endsWith(part) ? { ...entry, ...change } : entry;
  const encode = (text: string) => new TextEncoder().encode(text);
  it.each<[string, Uint8Array, RegExp]>([
    ["no archive", encode("a text"), /no zip archive/],
    ["an empty file", new Uint8Array(), /no zip archive/],
    [
      "an old file",
      Uint8Array.of(0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e),
      /since version 1.6/,
    ],
    ["another archive", zipBytes([{ name: "a.txt", data: encode("x") }]), /not one of PyTorch's/],
    ["two archives in one", zipBytes([...entries, { name: "b/data.pkl", data: encode("x") }]), /several archives/],
    ["an entry twice", zipBytes([...entries, entries[1]!]), /stands twice/],
    [
      "compressed entries",
      changed(only("data.pkl", { data: deflateRawSync(entries[0]!.data), method: 8 })),
      /compressed \(method 8\)/,
    ],
    ["the other byte order", changed(only("byteorder", { data: encode("big") })), /byte order is "big"/],
    ["a description without end", changed(only("data.pkl", { data: new Uint8Array(2 ** 24 + 1) })), /at most 16777216 are read/],
  ])("refuses %s", async (_, bytes, message) => {
    expect(await fault(bytes)).toMatchObject({ code: "TORCH_FILE", message: expect.stringMatching(message) });
  });

  it("says that there is no such file", async () => {
    await expect(openTorchFile(join(folder, "nowhere.bin"))).rejects.toMatchObject({ code: "ADAPTER_NOT_FOUND" });
    await expect(openTorchFile(folder)).rejects.toMatchObject({ code: "ADAPTER_NOT_FOUND" });
  });

  it("takes any damage for what it is", async () => {
    const whole = torchFileBytes(tensors, { metadata: true });
    const damage = fc.array(fc.record({ at: fc.nat(whole.length - 1), byte: fc.nat(255) }), { minLength: 1, maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(damage, fc.option(fc.nat(whole.length)), async (changes, length) => {
        const bytes = whole.slice(0, length ?? whole.length);
        for (const { at, byte } of changes) if (at < bytes.length) bytes[at] = byte;
        await fault(bytes); // a typed error, or a file that is still one
      }),
      { numRuns: 400 },
    );
  });

  it("takes any pickle for what it is", async () => {
    const valid = torchEntries(tensors)[0]!.data;
    const pickles = fc.oneof(
      fc.uint8Array({ maxLength: 60 }).map((bytes) => Uint8Array.of(0x80, 2, ...bytes, 0x2e)),
      fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }).map((changes) => {
        const bytes = valid.slice();
        for (const [at, byte] of changes) bytes[at] = byte;
        return bytes;
      }),
    );
    await fc.assert(
      fc.asyncProperty(pickles, async (data) => {
        await fault(changed(only("data.pkl", { data })));
      }),
      { numRuns: 400 },
    );
  });
});
