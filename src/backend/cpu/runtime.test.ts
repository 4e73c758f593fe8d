import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { fixture } from "../../../test/support/fixtures.js";
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
});
