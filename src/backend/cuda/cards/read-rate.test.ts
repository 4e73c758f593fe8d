import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { FakeCuda } from "../../../../test/support/fake-cuda.js";
import { CudaError } from "../driver/errors.js";
import { listCards } from "./cards.js";
import { measureReadRate } from "./read-rate.js";

const folder = mkdtempSync(join(tmpdir(), "exllama-read-"));
afterAll(() => rmSync(folder, { recursive: true }));

function cardOf(cuda: FakeCuda) {
  const sources = cuda.sources(join(folder, "baselines.json"));
  return { sources, card: listCards(sources)[0]! };
}

it("times a kernel that only reads, and gives everything back", () => {
  const cuda = new FakeCuda();
  const { sources, card } = cardOf(cuda);
  expect(measureReadRate(sources, card)).toBeGreaterThan(0);
  expect(new Set(cuda.launched)).toEqual(new Set(["read_memory"]));
  expect(cuda.leaks).toEqual([]);
});

it("gives everything back when any call of the driver fails", () => {
  const whole = new FakeCuda();
  const { sources, card } = cardOf(whole);
  const before = whole.calls;
  measureReadRate(sources, card);
  const calls = whole.calls - before;
  expect(calls).toBeGreaterThan(20);
  for (let call = 0; call < calls; call++) {
    const cuda = new FakeCuda();
    const failing = cardOf(cuda);
    cuda.failAt = { call: cuda.calls + call, status: 700 };
    let error: unknown = null;
    try {
      measureReadRate(failing.sources, failing.card);
    } catch (thrown) {
      error = thrown;
    }
    // The last two only give back: their failures change nothing.
    if (call < calls - 2) expect(error, `call ${call}`).toBeInstanceOf(CudaError);
    expect(cuda.leaks, `after ${cuda.failed}`).toEqual([]);
  }
});
