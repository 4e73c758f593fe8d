// The backends that this machine can try. A new one is added here and has the whole suite.

import type { Backend } from "../../src/backend/backend.js";
import { createCpuBackend } from "../../src/backend/cpu/index.js";
import type { CacheType } from "../../src/memory/packing.js";

export interface BackendUnderTest {
  readonly name: string;
  /** f32 throughout: held to the promise for the oracle. Others are held to what their arithmetic costs. */
  readonly exact: boolean;
  readonly cacheType: CacheType;
  /**
   * @param threads default 1. Bits do not depend on them, as invariance.test.ts shows; more would
   *   spend cores that other tests need on looking for each other
   */
  create(threads?: number): Backend;
}

/** Every kind of KV cache: for what does not depend on how near its answers are to the reference's. */
export const withEveryCache = (): readonly BackendUnderTest[] => [
  ...backends,
  ...(["q8", "q4"] as const).map((cacheType) => ({
    name: `cpu, ${cacheType} cache`,
    exact: false,
    cacheType,
    create: (threads = 1) => createCpuBackend({ threads }),
  })),
];

export const backends: readonly BackendUnderTest[] = [
  { name: "cpu, exact", exact: true, cacheType: "f32", create: (threads = 1) => createCpuBackend({ exact: true, threads }) },
  { name: "cpu", exact: false, cacheType: "f16", create: (threads = 1) => createCpuBackend({ threads }) },
];
