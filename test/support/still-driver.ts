// A driver whose card does nothing but take its time: for measuring what the host does in a step, and how
// much of it hides behind the card. Every step that is launched as a graph takes as long as it is told;
// every fact of a row is sound and names a token.

import koffi from "koffi";
import { CUDA_FUNCTIONS, type CudaFunctions, type NvmlFunctions } from "../../src/backend/cuda/driver/functions.js";

const GiB = 2 ** 30;
const NOT_READY = 600;
const FACT_BYTES = 32;
const NO_ID = 0x7fffffff;

export interface StillCard {
  /** What a launched graph takes, µs. */
  stepMicroseconds: number;
}

export function stillDriver(card: StillCard): { functions: CudaFunctions; nvml: NvmlFunctions } {
  let next = 1n << 40n;
  /** When the card will have done what it has been told, ms. */
  let free = 0;
  const events = new Map<bigint, number>();
  const pinned: ArrayBuffer[] = [];
  const handle = (out: BigUint64Array): number => {
    out[0] = next;
    next += BigInt(128 * GiB);
    return 0;
  };
  const put = (out: Int32Array, value: number): number => {
    out[0] = value;
    return 0;
  };
  const calls: { -readonly [Name in keyof CudaFunctions]?: CudaFunctions[Name] } = {
    cuDriverGetVersion: (out) => put(out as Int32Array, 13000),
    cuDeviceGetCount: (out) => put(out as Int32Array, 1),
    cuDeviceGet: (out, ordinal) => put(out as Int32Array, ordinal),
    cuDeviceGetAttribute: (out, which) => put(out as Int32Array, { 75: 9, 76: 0, 16: 132, 97: 232448 }[which] ?? 0),
    cuDeviceCanAccessPeer: (out) => put(out as Int32Array, 1),
    cuFuncGetAttribute: (out) => put(out as Int32Array, 0),
    cuMemGetInfo_v2: (free, total) => {
      (free as BigUint64Array)[0] = BigInt(79 * GiB);
      (total as BigUint64Array)[0] = BigInt(80 * GiB);
      return 0;
    },
    cuMemHostAlloc: (out, bytes) => {
      const memory = new ArrayBuffer(bytes);
      pinned.push(memory);
      (out as BigUint64Array)[0] = koffi.address(memory);
      return 0;
    },
    cuMemcpyDtoHAsync_v2: (to, _, bytes) => {
      if (!(to instanceof DataView)) return 0;
      const facts = to;
      for (let at = 0; at < bytes; at += FACT_BYTES) {
        facts.setFloat32(at, 1, true);
        facts.setFloat32(at + 4, 1, true);
        facts.setInt32(at + 16, NO_ID, true);
        facts.setInt32(at + 20, 5 + (((at / FACT_BYTES) * 7) % 1000), true);
        facts.setFloat32(at + 24, 1, true);
      }
      return 0;
    },
    cuGraphLaunch: () => {
      free = Math.max(free, performance.now()) + card.stepMicroseconds / 1e3;
      return 0;
    },
    cuEventRecord: (event) => {
      events.set(event, free);
      return 0;
    },
    cuEventQuery: (event) => (performance.now() < (events.get(event) ?? 0) ? NOT_READY : 0),
    cuStreamEndCapture: (_, out) => handle(out as BigUint64Array),
  };
  for (const name of [
    "cuDevicePrimaryCtxRetain",
    "cuMemAlloc_v2",
    "cuModuleLoadData",
    "cuModuleGetFunction",
    "cuStreamCreate",
    "cuGraphInstantiateWithFlags",
    "cuEventCreate",
  ] as const)
    calls[name] = ((out: BigUint64Array) => handle(out)) as never;
  const functions = Object.fromEntries(
    Object.keys(CUDA_FUNCTIONS).map((name) => [name, calls[name as keyof CudaFunctions] ?? (() => 0)]),
  ) as unknown as CudaFunctions;
  const nvml = {
    nvmlInit_v2: () => 0,
    nvmlShutdown: () => 0,
    nvmlSystemGetDriverVersion: () => 1,
    nvmlDeviceGetCount_v2: () => 0,
    nvmlDeviceGetHandleByUUID: (_: string, out: BigUint64Array) => {
      out[0] = 1n;
      return 0;
    },
    nvmlDeviceGetMemoryInfo: (_: bigint, out: BigUint64Array) => {
      out[0] = BigInt(80 * GiB);
      out[1] = BigInt(79 * GiB);
      return 0;
    },
    nvmlDeviceGetDisplayActive: () => 3,
    nvmlDeviceGetMigMode: () => 3,
    nvmlDeviceGetTotalEnergyConsumption: () => 3,
  } as unknown as NvmlFunctions;
  return { functions, nvml };
}
