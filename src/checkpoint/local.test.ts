import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { fixture } from "../../test/support/fixtures.js";
import { type WrittenTensor, writeWeights } from "../../test/support/safetensors-writer.js";
import { ExllamaError } from "../errors.js";
import type { Checkpoint } from "./checkpoint.js";
import { openCheckpoint, openSafetensors } from "./local.js";

let folder: string;
const opened: Checkpoint[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "exllama-checkpoint-"));
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((checkpoint) => checkpoint.close()));
  rmSync(folder, { recursive: true, force: true });
});

async function open(): Promise<Checkpoint> {
  const checkpoint = await openCheckpoint(folder);
  opened.push(checkpoint);
  return checkpoint;
}

async function refusal(path = folder): Promise<ExllamaError> {
  const error = await openCheckpoint(path).then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ExllamaError);
  return error as ExllamaError;
}

const write = (name: string, text: string | object) =>
  writeFileSync(join(folder, name), typeof text === "string" ? text : JSON.stringify(text));

const tensors: WrittenTensor[] = ["a", "b", "c"].map((name, at) => ({
  name,
  dtype: "U8",
  shape: [4],
  data: Uint8Array.from([at, at + 1, at + 2, at + 3]),
}));

describe("openCheckpoint", () => {
  it("reads one file, whatever its name", async () => {
    write("config.json", { model_type: "llama" });
    writeWeights(folder, tensors);
    copyFileSync(join(folder, "model.safetensors"), join(folder, "gptq_model-4bit-128g.safetensors"));
    expect((await open()).tensors.get("a")!.file).toBe("model.safetensors");
    rmSync(join(folder, "model.safetensors"));
    const checkpoint = await open();
    expect(checkpoint.tensors.get("a")!.file).toBe("gptq_model-4bit-128g.safetensors");
    expect(checkpoint.configs).toEqual({ config: { model_type: "llama" }, generation: null, quantize: null });
  });

  it("reads shards by their index, and the other two configs", async () => {
    write("config.json", {});
    write("generation_config.json", { eos_token_id: [2] });
    write("quantize_config.json", { bits: 4 });
    writeWeights(folder, tensors, 2);
    const checkpoint = await open();
    expect([...checkpoint.tensors.keys()].sort()).toEqual(["a", "b", "c"]);
    expect(checkpoint.tensors.get("b")!.file).toBe("model-00002-of-00002.safetensors");
    expect(checkpoint.configs).toMatchObject({ generation: { eos_token_id: [2] }, quantize: { bits: 4 } });
    for (const { name, data } of tensors) {
      const into = new Uint8Array(4);
      await checkpoint.read(checkpoint.tensors.get(name)!, 0, into);
      expect(into).toEqual(data);
    }
  });

  it("follows links, as a download cache keeps its files", async () => {
    write("config.json", {});
    mkdirSync(join(folder, "blobs"));
    writeWeights(join(folder, "blobs"), tensors);
    symlinkSync(join("blobs", "model.safetensors"), join(folder, "model.safetensors"));
    expect((await open()).tensors.size).toBe(3);
  });

  it.each<[string, () => void, string, RegExp]>([
    ["a missing folder", () => rmSync(folder, { recursive: true }), "CHECKPOINT_NOT_FOUND", /there is no folder/],
    ["a folder without config.json", () => writeWeights(folder, tensors), "CHECKPOINT_CONFIG", /no config\.json/],
    ["a config.json that is no JSON", () => write("config.json", "{"), "CHECKPOINT_CONFIG", /config\.json is not valid JSON/],
    [
      "a config.json that is a folder",
      () => {
        mkdirSync(join(folder, "config.json"));
        writeWeights(folder, tensors);
      },
      "CHECKPOINT_CONFIG",
      /config\.json is not a file/,
    ],
    ["a folder without weights", () => write("config.json", {}), "CHECKPOINT_NOT_FOUND", /no safetensors files/],
    [
      "weights of other formats",
      () => {
        write("config.json", {});
        write("model.gguf", "");
        write("pytorch_model.bin", "");
      },
      "CHECKPOINT_NOT_FOUND",
      /no safetensors files, only model\.gguf, pytorch_model\.bin/,
    ],
    [
      "several files and no index",
      () => {
        write("config.json", {});
        write("a.safetensors", "");
        write("b.safetensors", "");
      },
      "CHECKPOINT_NOT_FOUND",
      /2 safetensors files and no index/,
    ],
    [
      "weights that are a folder",
      () => {
        write("config.json", {});
        mkdirSync(join(folder, "model.safetensors"));
      },
      "CHECKPOINT_NOT_FOUND",
      /is not a file/,
    ],
    [
      "a truncated file",
      () => {
        write("config.json", {});
        writeWeights(folder, tensors);
        truncateSync(join(folder, "model.safetensors"), 100);
      },
      "SAFETENSORS_TRUNCATED",
      /model\.safetensors/,
    ],
    [
      "an empty file",
      () => {
        write("config.json", {});
        write("model.safetensors", "");
      },
      "SAFETENSORS_TRUNCATED",
      /0 bytes are too few/,
    ],
    [
      "a missing shard",
      () => {
        write("config.json", {});
        writeWeights(folder, tensors, 2);
        rmSync(join(folder, "model-00001-of-00002.safetensors"));
      },
      "CHECKPOINT_INDEX",
      /1 of 2 shards are missing/,
    ],
    [
      "an index that points elsewhere",
      () => {
        write("config.json", {});
        write("model.safetensors.index.json", { weight_map: { a: "../model.safetensors" } });
      },
      "CHECKPOINT_INDEX",
      /not the name of a safetensors file in the same folder/,
    ],
    [
      "an index that misplaces a tensor",
      () => {
        write("config.json", {});
        writeWeights(folder, tensors, 2);
        const index = join(folder, "model.safetensors.index.json");
        writeFileSync(index, readFileSync(index, "utf8").replace('"a":"model-00001', '"a":"model-00002'));
      },
      "CHECKPOINT_INDEX",
      /places tensor a in model-00002-of-00002\.safetensors, but it is in model-00001/,
    ],
    [
      "an index of absent tensors",
      () => {
        write("config.json", {});
        writeWeights(folder, tensors, 2);
        const index = join(folder, "model.safetensors.index.json");
        writeFileSync(index, readFileSync(index, "utf8").replace('"b"', '"other"'));
      },
      "CHECKPOINT_INDEX",
      /tensor other .* not there/,
    ],
    [
      "a tensor in two shards",
      () => {
        write("config.json", {});
        writeWeights(folder, tensors);
        copyFileSync(join(folder, "model.safetensors"), join(folder, "x.safetensors"));
        copyFileSync(join(folder, "model.safetensors"), join(folder, "y.safetensors"));
        rmSync(join(folder, "model.safetensors"));
        write("model.safetensors.index.json", { weight_map: { a: "x.safetensors", b: "y.safetensors" } });
      },
      "CHECKPOINT_INDEX",
      /tensor a is both in x\.safetensors and in y\.safetensors/,
    ],
    [
      "an index without a map",
      () => {
        write("config.json", {});
        write("model.safetensors.index.json", { weight_map: ["model.safetensors"] });
      },
      "CHECKPOINT_INDEX",
      /no weight_map/,
    ],
  ])("refuses %s", async (_, spoil, code, message) => {
    spoil();
    const error = await refusal();
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
  });

  it("refuses a file in place of a folder", async () => {
    write("model.safetensors", "");
    const error = await refusal(join(folder, "model.safetensors"));
    expect(error).toMatchObject({ code: "CHECKPOINT_NOT_FOUND", message: expect.stringMatching(/is a file; the folder/) });
  });

  it("refuses a folder it may not read", async () => {
    chmodSync(folder, 0o000);
    try {
      // The superuser may read everything; then the folder is merely empty of configs.
      const expected = process.getuid?.() === 0 ? "CHECKPOINT_CONFIG" : "CHECKPOINT_NOT_FOUND";
      expect((await refusal()).code).toBe(expected);
    } finally {
      chmodSync(folder, 0o700);
    }
  });
});

describe("reading contents", () => {
  beforeEach(() => {
    write("config.json", {});
    writeWeights(folder, tensors);
  });

  it("fills exactly the view it is given, in shared memory too", async () => {
    const checkpoint = await open();
    const memory = new Uint8Array(new SharedArrayBuffer(8)).fill(9);
    await checkpoint.read(checkpoint.tensors.get("b")!, 1, memory.subarray(2, 5));
    expect([...memory]).toEqual([9, 9, 2, 3, 4, 9, 9, 9]);
  });

  it("agrees with the bytes of a real file", async () => {
    const checkpoint = await openCheckpoint(fixture("tiny/llama-mha"));
    opened.push(checkpoint);
    const file = readFileSync(join(fixture("tiny/llama-mha"), "model.safetensors"));
    for (const tensor of checkpoint.tensors.values()) {
      const into = new Uint8Array(tensor.bytes);
      await checkpoint.read(tensor, 0, into);
      expect(Buffer.compare(into, file.subarray(tensor.start, tensor.start + tensor.bytes))).toBe(0);
    }
  });

  it.each([
    [-1, 1],
    [0, 5],
    [4, 1],
    [0.5, 1],
  ])("refuses to leave the tensor (offset %d, %d bytes)", async (offset, length) => {
    const checkpoint = await open();
    await expect(checkpoint.read(checkpoint.tensors.get("b")!, offset, new Uint8Array(length))).rejects.toMatchObject({
      code: "CHECKPOINT_READ",
    });
  });

  it("says so when the file has become shorter since", async () => {
    const checkpoint = await open();
    truncateSync(join(folder, "model.safetensors"), 20);
    await expect(checkpoint.read(checkpoint.tensors.get("c")!, 0, new Uint8Array(4))).rejects.toMatchObject({
      code: "CHECKPOINT_READ",
      message: expect.stringMatching(/has become shorter/),
    });
  });

  it("ends with closing, which may be repeated", async () => {
    const checkpoint = await open();
    await checkpoint.close();
    await checkpoint.close();
    await expect(checkpoint.read(checkpoint.tensors.get("a")!, 0, new Uint8Array(4))).rejects.toMatchObject({
      code: "CHECKPOINT_READ",
    });
  });
});

describe("openSafetensors", () => {
  it("opens one file by its path", async () => {
    writeWeights(folder, tensors);
    const path = join(folder, "model.safetensors");
    const checkpoint = await openSafetensors(path);
    opened.push(checkpoint);
    const into = new Uint8Array(4);
    await checkpoint.read(checkpoint.tensors.get("c")!, 0, into);
    expect([...into]).toEqual([2, 3, 4, 5]);
  });

  it("says what cannot be opened", async () => {
    await expect(openSafetensors(join(folder, "none"))).rejects.toMatchObject({ code: "CHECKPOINT_NOT_FOUND" });
    await expect(openSafetensors(folder)).rejects.toMatchObject({ message: expect.stringMatching(/is not a file/) });
  });
});
