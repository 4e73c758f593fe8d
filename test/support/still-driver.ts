// A driver whose card does nothing but take its time: for measuring what the host does in a step and how
// much of it hides behind the card, and for seeing which steps are launched. Every fact of a row is
// sound and names a token.

import koffi from "koffi";
import type { CardSources } from "../../src/backend/cuda/cards/cards.js";
import { Nvml } from "../../src/backend/cuda/cards/nvml.js";
import { CudaDriver } from "../../src/backend/cuda/driver/driver.js";
import { CUDA_FUNCTIONS, type CudaFunctions, type NvmlFunctions } from "../../src/backend/cuda/driver/functions.js";

const GiB = 2 ** 30;
const TOTAL = 80 * GiB;
const FREE = 79 * GiB;
const NOT_READY = 600;
const NOT_SUPPORTED = 3;
const FACT_BYTES = 32;
const NO_ID = 0x7fffffff;

type Calls = { -readonly [Name in keyof CudaFunctions]?: CudaFunctions[Name] };

export class StillCuda {
  /** What a launched graph takes, µs. */
  stepMicroseconds = 0;
  /** A test may set it back. */
  launchedGraphs = 0;
  /** Facts of rows say that all logits are numbers. */
  sound = true;
  readonly #cards: number;
  /** When the cards will have done what they have been told, ms. */
  #free = 0;
  #next = 1n << 40n;
  readonly #events = new Map<bigint, number>();
  /** Kept alive. */
  readonly #pinned: ArrayBuffer[] = [];

  constructor({ cards = 1 }: { cards?: number } = {}) {
    this.#cards = cards;
  }

  /** What every step chooses for a row. */
  idOfRow(row: number): number {
    return 5 + ((row * 7) % 250);
  }

  sources(): CardSources {
    const calls = this.#calls();
    const functions = Object.fromEntries(
      Object.keys(CUDA_FUNCTIONS).map((name) => [name, calls[name as keyof CudaFunctions] ?? (() => 0)]),
    ) as unknown as CudaFunctions;
    return { driver: new CudaDriver(functions), nvml: new Nvml(NVML) };
  }

  #handle(out: unknown): number {
    (out as BigUint64Array)[0] = this.#next;
    this.#next += BigInt(128 * GiB);
    return 0;
  }

  #calls(): Calls {
    const take = (out: unknown): number => this.#handle(out);
    return {
      cuDriverGetVersion: (out) => put(out, 13000),
      cuDeviceGetCount: (out) => put(out, this.#cards),
      cuDeviceGet: (out, ordinal) => put(out, ordinal),
      cuDeviceGetUuid_v2: (out, device) => {
        (out as Uint8Array).fill(device + 1);
        return 0;
      },
      // Compute capability, multiprocessors and shared memory per block of an H100.
      cuDeviceGetAttribute: (out, which) => put(out, { 75: 9, 76: 0, 16: 132, 97: 232448 }[which] ?? 0),
      cuDeviceCanAccessPeer: (out) => put(out, 1),
      cuFuncGetAttribute: (out) => put(out, 0),
      cuMemGetInfo_v2: (free, total) => {
        (free as BigUint64Array)[0] = BigInt(FREE);
        (total as BigUint64Array)[0] = BigInt(TOTAL);
        return 0;
      },
      cuMemHostAlloc: (out, bytes) => {
        const memory = new ArrayBuffer(bytes);
        this.#pinned.push(memory);
        (out as BigUint64Array)[0] = koffi.address(memory);
        return 0;
      },
      cuMemcpyDtoHAsync_v2: (to) => {
        if (to instanceof DataView) this.#writeFacts(to);
        return 0;
      },
      cuGraphLaunch: () => {
        this.launchedGraphs++;
        this.#free = Math.max(this.#free, performance.now()) + this.stepMicroseconds / 1e3;
        return 0;
      },
      cuEventRecord: (event) => {
        this.#events.set(event, this.#free);
        return 0;
      },
      cuEventQuery: (event) => (performance.now() < (this.#events.get(event) ?? 0) ? NOT_READY : 0),
      cuStreamEndCapture: (_, out) => this.#handle(out),
      cuDevicePrimaryCtxRetain: take,
      cuMemAlloc_v2: take,
      cuModuleLoadData: take,
      cuModuleGetFunction: take,
      cuStreamCreate: take,
      cuGraphInstantiateWithFlags: take,
      cuEventCreate: take,
    };
  }

  /** sample.cu's RowFacts. */
  #writeFacts(facts: DataView): void {
    for (let at = 0; at < facts.byteLength; at += FACT_BYTES) {
      facts.setFloat32(at, 1, true);
      facts.setFloat32(at + 4, 1, true);
      facts.setInt32(at + 16, this.sound ? NO_ID : 0, true);
      facts.setInt32(at + 20, this.idOfRow(at / FACT_BYTES), true);
      facts.setFloat32(at + 24, 1, true);
    }
  }
}

const NVML = {
  nvmlInit_v2: () => 0,
  nvmlShutdown: () => 0,
  nvmlSystemGetDriverVersion: () => 1,
  nvmlDeviceGetCount_v2: () => 0,
  nvmlDeviceGetHandleByUUID: (_uuid, out) => {
    (out as BigUint64Array)[0] = 1n;
    return 0;
  },
  nvmlDeviceGetMemoryInfo: (_handle, out) => {
    (out as BigUint64Array).set([BigInt(TOTAL), BigInt(FREE)]);
    return 0;
  },
  nvmlDeviceGetDisplayActive: () => NOT_SUPPORTED,
  nvmlDeviceGetMigMode: () => NOT_SUPPORTED,
  nvmlDeviceGetTotalEnergyConsumption: () => NOT_SUPPORTED,
} satisfies NvmlFunctions;

function put(out: unknown, value: number): number {
  (out as Int32Array)[0] = value;
  return 0;
}
