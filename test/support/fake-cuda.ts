// A driver without a card: keeps account of everything that is taken and given back, and answers
// calls on what is gone as the real one might on a bad day, with an exception. Kernels do
// nothing, copies from the device bring zeros; what it proves is that nothing leaks, that
// nothing is used after it was freed, and that every failure is survived.

import koffi from "koffi";
import { Calibrations } from "../../src/backend/cuda/cards/calibration.js";
import type { CardSources } from "../../src/backend/cuda/cards/cards.js";
import { Nvml } from "../../src/backend/cuda/cards/nvml.js";
import { CudaDriver } from "../../src/backend/cuda/driver/driver.js";
import { CUDA_FUNCTIONS, type CudaFunctions, type NvmlFunctions } from "../../src/backend/cuda/driver/functions.js";

const MiB = 2 ** 20;
/** Device addresses lie where no small number of a kernel's parameters could. */
const DEVICE_BASE = 0x7e5a_0000_0000n;
const OUT_OF_MEMORY = 2;
/** CU_LAUNCH_ATTRIBUTE_… */
const COOPERATIVE = 2;
const CLUSTER_DIMENSION = 4;

export interface FakeCard {
  readonly total: number;
  /** What a context takes. */
  readonly context: number;
  /** What each launch in a graph takes; default nothing. */
  readonly launch?: number;
  readonly capability: readonly [major: number, minor: number];
  readonly peer?: boolean;
}

export const FAKE_CARD: FakeCard = { total: 16 * 1024 * MiB, context: 500 * MiB, capability: [9, 0], peer: true };

/** Calls that may fail only while something is given back: their failures are ignored by design. */
const GIVES_BACK =
  /^cu(MemFree|MemFreeHost|ModuleUnload|StreamDestroy|EventDestroy|GraphDestroy|GraphExecDestroy|DevicePrimaryCtxRelease)/;

export class FakeCuda {
  readonly cards: readonly FakeCard[];
  /** Names of the kernels launched, in order. */
  readonly launched: string[] = [];
  /** Those of them all of whose blocks were to run at once. */
  readonly together = new Set<string>();
  /** Blocks of a cluster, of those launched in clusters. */
  readonly clusters = new Map<string, number>();
  /** Functions called, in order; a test may empty it. */
  readonly made: string[] = [];
  /** Copies within a card, in order; a test may empty it. */
  readonly copied: { readonly to: bigint; readonly from: bigint; readonly bytes: number }[] = [];
  /** Calls so far that failAt counts: those that take or use, not those that give back. */
  calls = 0;
  /** The call to fail (from 0), and with which status. */
  failAt: { readonly call: number; readonly status: number } | null = null;
  /** The function that was made to fail. */
  failed: string | null = null;
  readonly #live = new Map<bigint, { kind: string; bytes: number; card: number; memory?: ArrayBuffer }>();
  readonly #retained: number[];
  readonly #names = new Map<bigint, string>();
  #current = -1;
  #next = DEVICE_BASE;
  #capturing = false;
  /** Launches of the graph that was captured last. */
  #recorded = 0;

  constructor(cards: readonly FakeCard[] = [FAKE_CARD]) {
    this.cards = cards;
    this.#retained = cards.map(() => 0);
  }

  /** What is still held, in words. */
  get leaks(): string[] {
    const contexts = this.#retained.flatMap((count, card) => (count > 0 ? [`context of card ${card}`] : []));
    return [...contexts, ...[...this.#live.values()].map(({ kind, bytes }) => `${kind} of ${bytes}`)];
  }

  sources(calibrationFile: string): CardSources {
    return {
      driver: new CudaDriver(this.functions()),
      nvml: new Nvml(this.#nvml()),
      calibrations: new Calibrations(calibrationFile),
    };
  }

  functions(): CudaFunctions {
    const table = Object.fromEntries(
      Object.keys(CUDA_FUNCTIONS).map((name) => [
        name,
        (...values: unknown[]) => this.#call(name as keyof CudaFunctions, values),
      ]),
    );
    return table as unknown as CudaFunctions;
  }

  #call(name: keyof CudaFunctions, values: unknown[]): number {
    this.made.push(name);
    if (!GIVES_BACK.test(name)) {
      if (this.failAt?.call === this.calls++) {
        this.failed = name;
        return this.failAt.status;
      }
    }
    const run = this.#calls[name] as ((...values: unknown[]) => number | undefined) | undefined;
    if (!run) throw new Error(`the fake driver does not have ${name}`);
    return run.apply(this, values) ?? 0;
  }

  #take(kind: string, out: unknown, bytes = 0, card = this.#current): undefined {
    if (card < 0 || this.#retained[card] === 0) throw new Error(`${kind} without a context`);
    const handle = this.#next;
    this.#next += BigInt(Math.ceil(Math.max(bytes, 1) / (2 * MiB)) * 2 * MiB);
    this.#live.set(handle, { kind, bytes, card });
    (out as BigUint64Array)[0] = handle;
  }

  #give(kind: string, handle: unknown): undefined {
    if (this.#live.get(handle as bigint)?.kind !== kind) throw new Error(`${kind} ${handle} is not there to give back`);
    this.#live.delete(handle as bigint);
  }

  #need(kind: string, handle: unknown): void {
    if (this.#live.get(handle as bigint)?.kind !== kind) throw new Error(`${kind} ${handle} is used and not there`);
  }

  /** Device or pinned memory must be alive over the whole range. */
  #range(address: bigint, bytes: number): void {
    for (const [begin, { kind, bytes: size }] of this.#live)
      if ((kind === "memory" || kind === "pinned") && address >= begin && address + BigInt(bytes) <= begin + BigInt(size)) return;
    throw new Error(`${bytes} bytes at ${address.toString(16)} are not allocated`);
  }

  #used(card: number): number {
    const taken = [...this.#live.values()].filter(
      (each) => (each.kind === "memory" || each.kind === "executable graph") && each.card === card,
    );
    return taken.reduce((sum, { bytes }) => sum + bytes, this.#retained[card]! > 0 ? this.cards[card]!.context : 0);
  }

  readonly #calls: Partial<Record<keyof CudaFunctions, (...values: never[]) => number | undefined>> = {
    cuInit: () => 0,
    cuDriverGetVersion: (out: Int32Array) => put(out, 13000),
    cuDeviceGetCount: (out: Int32Array) => put(out, this.cards.length),
    cuDeviceGet: (out: Int32Array, ordinal: number) => put(out, ordinal),
    cuDeviceGetName: (out: Uint8Array) => void out.set(new TextEncoder().encode("Fake card")),
    cuDeviceGetUuid_v2: (out: Uint8Array, device: number) => void out.fill(device + 1),
    cuDeviceGetAttribute: (out: Int32Array, which: number, device: number) => {
      const [major, minor] = this.cards[device]!.capability;
      // Multiprocessors and shared memory per block of an H100; compute capability as the test says; no compute mode.
      out[0] = which === 75 ? major : which === 76 ? minor : which === 16 ? 132 : which === 97 ? 232448 : 0;
      return 0;
    },
    cuDeviceCanAccessPeer: (out: Int32Array, a: number, b: number) =>
      put(out, this.cards[a]!.peer && this.cards[b]!.peer ? 1 : 0),
    cuDevicePrimaryCtxSetFlags_v2: () => 0,
    cuDevicePrimaryCtxRetain: (out: BigUint64Array, card: number) => {
      this.#retained[card]!++;
      out[0] = BigInt(card + 1);
      return 0;
    },
    cuDevicePrimaryCtxRelease_v2: (card: number) => {
      if (this.#retained[card]! <= 0) throw new Error("a context is released twice");
      this.#retained[card]!--;
      return 0;
    },
    cuCtxSetCurrent: (context: bigint) => {
      this.#current = Number(context) - 1;
      if (this.#retained[this.#current] === 0) throw new Error("a released context is used");
      return 0;
    },
    cuCtxEnablePeerAccess: () => 0,
    cuMemGetInfo_v2: (free: BigUint64Array, total: BigUint64Array) => {
      total[0] = BigInt(this.cards[this.#current]!.total);
      free[0] = total[0]! - BigInt(this.#used(this.#current));
      return 0;
    },
    cuMemAlloc_v2: (out: BigUint64Array, bytes: number) => {
      if (this.#used(this.#current) + bytes > this.cards[this.#current]!.total) return OUT_OF_MEMORY;
      return this.#take("memory", out, bytes);
    },
    cuMemFree_v2: (pointer: bigint) => this.#give("memory", pointer),
    cuMemHostAlloc: (out: BigUint64Array, bytes: number) => {
      const memory = new ArrayBuffer(bytes);
      const address = koffi.address(memory);
      this.#live.set(address, { kind: "pinned", bytes, card: this.#current, memory });
      out[0] = address;
      return 0;
    },
    cuMemHostGetDevicePointer_v2: (out: BigUint64Array, address: bigint) => {
      this.#need("pinned", address);
      out[0] = address;
      return 0;
    },
    cuMemFreeHost: (address: bigint) => this.#give("pinned", address),
    cuMemcpyHtoDAsync_v2: (to: bigint, _: unknown, bytes: number) => this.#range(to, bytes) as undefined,
    cuMemcpyDtoHAsync_v2: (to: ArrayBufferView, from: bigint, bytes: number) => {
      this.#range(from, bytes);
      new Uint8Array(to.buffer as ArrayBuffer, to.byteOffset, bytes).fill(0);
      return 0;
    },
    cuMemcpyDtoDAsync_v2: (to: bigint, from: bigint, bytes: number) => {
      this.copied.push({ to, from, bytes });
      this.#range(to, bytes);
      return this.#range(from, bytes) as undefined;
    },
    cuMemcpyPeerAsync: (to: bigint, _: bigint, from: bigint, __: bigint, bytes: number) => {
      this.copied.push({ to, from, bytes });
      this.#range(to, bytes);
      return this.#range(from, bytes) as undefined;
    },
    cuMemsetD8Async: (to: bigint, _: number, bytes: number) => this.#range(to, bytes) as undefined,
    cuModuleLoadData: (out: BigUint64Array) => this.#take("module", out),
    cuModuleUnload: (module: bigint) => this.#give("module", module),
    cuModuleGetFunction: (out: BigUint64Array, module: bigint, name: string) => {
      this.#need("module", module);
      out[0] = BigInt(this.#names.size + 1);
      this.#names.set(out[0], name);
      return 0;
    },
    cuFuncGetAttribute: (out: Int32Array) => put(out, 0),
    cuTensorMapEncodeTiled: () => 0,
    cuFuncSetAttribute: () => 0,
    cuFuncLoad: () => 0,
    cuLaunchKernelEx: (config: DataView, kernel: bigint, pointers: BigUint64Array) => {
      const name = this.#names.get(kernel);
      if (!name) throw new Error("a kernel that was never looked up is launched");
      this.launched.push(name);
      const attributes = launchAttributes(config);
      if (attributes.has(COOPERATIVE)) this.together.add(name);
      const cluster = attributes.get(CLUSTER_DIMENSION);
      if (cluster !== undefined) {
        if (config.getUint32(0, true) % cluster > 0) throw new Error(`${name} has no whole number of clusters`);
        this.clusters.set(name, cluster);
      }
      if (this.#capturing) this.#recorded++;
      for (const value of new BigUint64Array(koffi.view(pointers[0]!, POINTER_BYTES[name] ?? 0)))
        if (value >= DEVICE_BASE && value < DEVICE_BASE + (1n << 40n)) this.#range(value, 1);
      return 0;
    },
    cuStreamCreate: (out: BigUint64Array) => this.#take("stream", out),
    cuStreamDestroy_v2: (stream: bigint) => this.#give("stream", stream),
    cuStreamSynchronize: (stream: bigint) => this.#need("stream", stream) as undefined,
    cuStreamWaitEvent: (stream: bigint, event: bigint) => {
      this.#need("stream", stream);
      return this.#need("event", event) as undefined;
    },
    cuStreamBeginCapture_v2: () => {
      if (this.#capturing) throw new Error("two captures at once");
      this.#capturing = true;
      return 0;
    },
    cuStreamEndCapture: (_: bigint, out: BigUint64Array) => {
      this.#capturing = false;
      return this.#take("graph", out);
    },
    cuGraphInstantiateWithFlags: (out: BigUint64Array, graph: bigint) => {
      this.#need("graph", graph);
      this.#take("executable graph", out, this.#recorded * (this.cards[this.#current]!.launch ?? 0));
      this.#recorded = 0;
      return 0;
    },
    cuGraphUpload: () => 0,
    cuGraphLaunch: (graph: bigint) => this.#need("executable graph", graph) as undefined,
    cuGraphExecDestroy: (graph: bigint) => this.#give("executable graph", graph),
    cuGraphDestroy: (graph: bigint) => this.#give("graph", graph),
    cuEventCreate: (out: BigUint64Array) => this.#take("event", out),
    cuEventRecord: (event: bigint) => this.#need("event", event) as undefined,
    cuEventQuery: (event: bigint) => this.#need("event", event) as undefined,
    cuEventSynchronize: (event: bigint) => this.#need("event", event) as undefined,
    cuEventElapsedTime_v2: (out: Float32Array, begin: bigint, end: bigint) => {
      this.#need("event", begin);
      this.#need("event", end);
      out[0] = 1;
    },
    cuEventDestroy_v2: (event: bigint) => this.#give("event", event),
  };

  #nvml(): NvmlFunctions {
    return {
      nvmlInit_v2: () => 0,
      nvmlShutdown: () => 0,
      nvmlSystemGetDriverVersion: (out) => {
        (out as Uint8Array).set(new TextEncoder().encode("580.00"));
        return 0;
      },
      nvmlDeviceGetCount_v2: () => 0,
      nvmlDeviceGetHandleByUUID: (uuid, out) => {
        (out as BigUint64Array)[0] = BigInt(Number.parseInt(uuid.slice(4, 6), 16));
        return 0;
      },
      nvmlDeviceGetMemoryInfo: (handle, out) => {
        const card = Number(handle) - 1;
        const { total } = this.cards[card]!;
        (out as BigUint64Array).set([BigInt(total), BigInt(total - this.#used(card)), BigInt(this.#used(card))]);
        return 0;
      },
      nvmlDeviceGetDisplayActive: (_, out) => {
        (out as Int32Array)[0] = 0;
        return 0;
      },
      nvmlDeviceGetMigMode: () => 3,
      nvmlDeviceGetTotalEnergyConsumption: () => 0,
    };
  }
}

/** Whether a CUlaunchConfig has that attribute (2) among its own, of 72 bytes each. */
/** The first word of each attribute of a launch, by its id. */
function launchAttributes(config: DataView): Map<number, number> {
  const count = config.getUint32(48, true);
  if (count === 0) return new Map();
  const attributes = new DataView(koffi.view(config.getBigUint64(40, true), count * 72));
  return new Map(
    Array.from({ length: count }, (_, i) => [attributes.getUint32(i * 72, true), attributes.getUint32(i * 72 + 8, true)]),
  );
}

function put(out: Int32Array, value: number): undefined {
  out[0] = value;
}

/** Bytes of pointers at the beginning of each kernel's parameters, some behind small numbers. */
const POINTER_BYTES: Readonly<Record<string, number>> = {
  embed: 56,
  rms_norm: 40,
  rms_norm_few: 40,
  rms_norm_deferred: 40,
  linear_chain_q4_g128: 88,
  linear_chain_rows_q4_g128: 128 + 96,
  rope_table: 32,
  rope_kv_f16: 88,
  rope_kv_q8: 88,
  rope_kv_q4: 88,
  silu_mul: 24,
  lora_shrink_row: 80,
  lora_shrink_rows: 80,
  lora_expand: 56,
  inspect_logits: 24,
  linear_head_k2048: 64,
  linear_head_k4096: 64,
  linear_half_gemm: 40,
  gather_columns: 24,
  to_half: 24,
  dequantize: 48,
};
