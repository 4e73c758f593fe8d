import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { findFixture, fixture } from "../../../test/support/fixtures.js";
import { openSafetensors } from "../../checkpoint/local.js";
import { loadTestModel, TestSequence } from "./test-model.js";

async function golden(path: string, name: string): Promise<Float32Array | Int32Array> {
  const file = await openSafetensors(path);
  try {
    const tensor = file.tensors.get(name)!;
    const bytes = new Uint8Array(tensor.bytes);
    await file.read(tensor, 0, bytes);
    return tensor.dtype === "F32" ? new Float32Array(bytes.buffer) : new Int32Array(bytes.buffer);
  } finally {
    await file.close();
  }
}

function worstDifference(got: readonly Float32Array[], wanted: Float32Array): number {
  const mean = wanted.reduce((sum, value) => sum + value, 0) / wanted.length;
  const deviation = Math.sqrt(wanted.reduce((sum, value) => sum + (value - mean) ** 2, 0) / wanted.length);
  const size = wanted.length / got.length;
  let worst = 0;
  got.forEach((row, i) => {
    expect(row.length).toBe(size);
    row.forEach((value, j) => {
      worst = Math.max(worst, Math.abs(value - wanted[i * size + j]!));
    });
  });
  return worst / deviation;
}

describe("the exact path", () => {
  it.each(["llama-mha", "llama-gqa-tied", "llama-rope-llama3"])("gives the reference's logits for tiny/%s", async (name) => {
    const folder = fixture(join("tiny", name));
    const file = join(folder, "golden.safetensors");
    const [ids, positions, logits] = [await golden(file, "ids"), await golden(file, "positions"), await golden(file, "logits")];
    const runtime = await loadTestModel(folder, { exact: true });
    try {
      const wanted = new Set(positions);
      const answers = await new TestSequence(runtime).feed(ids as Int32Array, (at) => (wanted.has(at) ? { logits: true } : null));
      const got = answers.map((answer) => answer.logits!);
      expect(got.length).toBe(positions.length);
      expect(worstDifference(got, logits as Float32Array)).toBeLessThan(2e-3);
    } finally {
      await runtime.dispose();
    }
  });

  const demos = ["demo-gptq-4bit-g128", "demo-gptq-4bit-g128-act", "demo-gptq-8bit-g128", "demo-fp16"];
  it.each(demos.filter((name) => findFixture(name)))("gives the reference's logits and greedy text for %s", async (name) => {
    const file = fixture(`${name}.golden.safetensors`);
    const runtime = await loadTestModel(fixture(name), { exact: true, context: 1024, prefillChunk: 256 });
    try {
      for (const prompt of ["prompt0", "prompt1", "prompt2", "prompt3"]) {
        const ids = (await golden(file, `${prompt}.ids`)) as Int32Array;
        const logits = (await golden(file, `${prompt}.logits_last8`)) as Float32Array;
        const rows = logits.length / runtime.spec.vocabSize;
        const answers = await new TestSequence(runtime).feed(ids, (at) => (at >= ids.length - rows ? { logits: true } : null));
        expect(
          worstDifference(
            answers.map((answer) => answer.logits!),
            logits,
          ),
        ).toBeLessThan(2e-3);
        if (prompt === "prompt3") continue;
        const greedy64 = (await golden(file, `${prompt}.greedy64`)) as Int32Array;
        expect(await new TestSequence(runtime).generate(ids, 64)).toEqual([...greedy64]);
      }
    } finally {
      await runtime.dispose();
    }
  });
});
