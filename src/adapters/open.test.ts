// Adapters that do not go with a model, or are more than LoRA: refused with the reason, nothing
// left open.

import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { readModel as readReference } from "../../test/reference/reader.js";
import { fixture } from "../../test/support/fixtures.js";
import type { WrittenTensor } from "../../test/support/safetensors-writer.js";
import { adapterFiles, type SyntheticAdapter, smallAdapter, writeAdapterFiles } from "../../test/support/synthetic-adapter.js";
import { floatTensor } from "../../test/support/synthetic-linear.js";
import { openCheckpoint } from "../checkpoint/local.js";
import { readModel } from "../model/read.js";
import type { ModelSpec } from "../model/spec.js";
import { openAdapter } from "./open.js";
import { closeAdapters, openAdapters } from "./open-all.js";

const model = fixture("tiny/llama-gqa-tied");
const reference = readReference(model);
const adapter: SyntheticAdapter = { ...smallAdapter, targets: ["q", "down"] };

let spec: ModelSpec;
let folder: string;
beforeEach(async () => {
  const checkpoint = await openCheckpoint(model);
  spec = readModel(checkpoint);
  await checkpoint.close();
  folder = mkdtempSync(join(tmpdir(), "exllama-open-adapter-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Writes an adapter after `change` has been at its parts. */
function write(
  change: (parts: { tensors: WrittenTensor[]; config: Record<string, unknown> }) => void = () => {},
  of: SyntheticAdapter = adapter,
): void {
  const parts = adapterFiles(of, reference);
  change(parts);
  writeAdapterFiles(folder, parts.config, parts.tensors, of.file);
}

const open = () => openAdapter(folder, "a", spec);
const q0 = "base_model.model.model.layers.0.self_attn.q_proj";
const zeros = (name: string, shape: number[]) => floatTensor(name, shape, new Float64Array(shape.reduce((a, b) => a * b)), "f32");

describe("openAdapter", () => {
  it("says which linears it changes, and reads their factors with the scale in B", async () => {
    write();
    const opened = await open();
    expect(opened.spec).toEqual({ name: "a", layers: spec.layers.map(() => ({ q: 4, down: 4 })) });
    const { pairs } = adapterFiles(adapter, reference);
    const wanted = pairs.get("1.down")!;
    const { a, b } = await opened.read(1, "down");
    expect([...a]).toEqual([...wanted.a]);
    expect([...b]).toEqual([...wanted.b].map((value) => value * 2));
    await opened.close();
    await opened.close();
  });

  it("takes the weights file's own path, whatever its name", async () => {
    write();
    renameSync(join(folder, "adapter_model.safetensors"), join(folder, "pirate.safetensors"));
    const opened = await openAdapter(join(folder, "pirate.safetensors"), "a", spec);
    expect(opened.spec.layers[0]).toEqual({ q: 4, down: 4 });
    await opened.close();
  });

  it.each(["safetensors", "bin"] as const)("ignores biases of zero (%s)", async (file) => {
    write(({ tensors }) => tensors.push(zeros(`${q0}.bias`, [128]), zeros(`${q0}.lora_B.bias`, [128])), { ...adapter, file });
    await (await open()).close();
  });

  it.each<[string, (parts: { tensors: WrittenTensor[]; config: Record<string, unknown> }) => void, string, RegExp]>([
    [
      "a bias that is not zero",
      ({ tensors }) => tensors.push(floatTensor(`${q0}.bias`, [2], Float64Array.of(0, 0.5), "f16")),
      "ADAPTER_TENSOR",
      /bias.*is not zero/,
    ],
    [
      "a DoRA magnitude",
      ({ tensors }) => tensors.push(zeros(`${q0}.lora_magnitude_vector`, [128])),
      "ADAPTER_UNSUPPORTED",
      /DoRA/,
    ],
    [
      "changed embeddings",
      ({ tensors }) => tensors.push(zeros("base_model.model.model.embed_tokens.lora_embedding_A", [4, 8])),
      "ADAPTER_UNSUPPORTED",
      /embeddings or the head/,
    ],
    [
      "a changed head",
      ({ tensors }) => tensors.push(zeros("base_model.model.lm_head.lora_A.weight", [4, 8])),
      "ADAPTER_UNSUPPORTED",
      /embeddings or the head/,
    ],
    [
      "a whole norm",
      ({ tensors }) => tensors.push(zeros("base_model.model.model.norm.weight", [128])),
      "ADAPTER_UNSUPPORTED",
      /nothing here knows what .*norm/,
    ],
    [
      "a module that is none",
      ({ tensors }) => tensors.push(zeros("base_model.model.model.layers.0.mlp.toString.lora_A.weight", [4, 8])),
      "ADAPTER_UNSUPPORTED",
      /nothing here knows/,
    ],
    [
      "a layer that the model has not",
      ({ tensors }) => tensors.push(zeros(q0.replace("layers.0", "layers.99").concat(".lora_A.weight"), [4, 128])),
      "ADAPTER_TENSOR",
      /layer 99; this model has 3/,
    ],
    ["half a pair", ({ tensors }) => void tensors.pop(), "ADAPTER_TENSOR", /has no lora_B beside it/],
    [
      "a factor twice",
      ({ tensors }) => tensors.push({ ...tensors[0]!, name: tensors[0]!.name.replace("base_model.model.", "") }),
      "ADAPTER_TENSOR",
      /same factor twice/,
    ],
    [
      "another model's shape",
      ({ tensors }) => void tensors.splice(0, 1, zeros(tensors[0]!.name, [4, 256])),
      "ADAPTER_TENSOR",
      /\[4, 256\].*needs \[rank, 128\]/,
    ],
    [
      "factors that do not meet",
      ({ tensors }) => void tensors.splice(0, 1, zeros(tensors[0]!.name, [5, 128])),
      "ADAPTER_TENSOR",
      /\[5, 128\]/,
    ],
    [
      "a factor of three dimensions",
      ({ tensors }) => void tensors.splice(0, 1, zeros(tensors[0]!.name, [4, 128, 1])),
      "ADAPTER_TENSOR",
      /\[4, 128, 1\]/,
    ],
    ["no tensors at all", ({ tensors }) => void tensors.splice(0), "ADAPTER_TENSOR", /holds no LoRA factors/],
    [
      "a rank that the config contradicts",
      ({ config }) => void Object.assign(config, { r: 8 }),
      "ADAPTER_CONFIG",
      /has rank 4, adapter_config.json says 8/,
    ],
    [
      "targets without tensors",
      ({ config }) => void Object.assign(config, { target_modules: ["q_proj", "down_proj", "k_proj"] }),
      "ADAPTER_TENSOR",
      /names k_proj, but there are no tensors/,
    ],
    [
      "targets that are not applied",
      ({ config }) => void Object.assign(config, { target_modules: ["q_proj", "lm_head"] }),
      "ADAPTER_UNSUPPORTED",
      /changes lm_head/,
    ],
    [
      "integers",
      ({ tensors }) => tensors.push({ name: `${q0}.bias`, dtype: "I64", shape: [1], data: new Uint8Array(8) }),
      "ADAPTER_UNSUPPORTED",
      /is I64/,
    ],
  ])("refuses %s", async (_, change, code, message) => {
    write(change);
    await expect(open()).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, 60000])(
    "refuses a factor of %f, with its scale, when it is read",
    async (value) => {
      write(({ tensors }) => {
        const place = tensors.findIndex(({ name }) => name === `${q0}.lora_B.weight`);
        tensors[place] = floatTensor(tensors[place]!.name, [128, 4], new Float64Array(512).fill(value, 7, 8), "f32");
      });
      const opened = await open();
      await expect(opened.read(0, "q")).rejects.toMatchObject({
        code: "ADAPTER_TENSOR",
        message: expect.stringMatching(/value 7 of/),
      });
      await opened.close();
    },
  );

  it("says what is missing", async () => {
    await expect(open()).rejects.toMatchObject({ code: "ADAPTER_NOT_FOUND", message: expect.stringMatching(/holds neither/) });
    await expect(openAdapter(join(folder, "nowhere"), "a", spec)).rejects.toMatchObject({ code: "ADAPTER_NOT_FOUND" });
    write();
    rmSync(join(folder, "adapter_config.json"));
    await expect(open()).rejects.toMatchObject({ message: expect.stringMatching(/adapter_config.json is missing/) });
    writeFileSync(join(folder, "adapter_config.json"), "{");
    await expect(open()).rejects.toMatchObject({ code: "CHECKPOINT_CONFIG" });
  });
});

describe("openAdapters", () => {
  it("opens them in the order of their names' appearance", async () => {
    write();
    const opened = await openAdapters({ z: folder, a: folder }, spec);
    expect(opened.map((one) => one.spec.name)).toEqual(["z", "a"]);
    await closeAdapters(opened);
  });

  it.each(["", "a b", "a:b", "a/b", "x".repeat(65)])("refuses the name %j", async (name) => {
    write();
    await expect(openAdapters({ [name]: folder }, spec)).rejects.toMatchObject({ code: "USAGE" });
  });

  it("refuses a path that is none, and more than it has room for", async () => {
    await expect(openAdapters({ a: "" }, spec)).rejects.toMatchObject({ code: "USAGE" });
    const many = Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`a${i}`, folder]));
    await expect(openAdapters(many, spec)).rejects.toMatchObject({ code: "USAGE" });
  });
});
