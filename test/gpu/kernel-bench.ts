// What every program that runs single kernels does: memory with known contents, launches, graphs of
// launches that may overlap, times by events, and comparisons that are counted when they fail.

import type { DeviceContext } from "../../src/backend/cuda/cards/device-context.js";
import type { KernelFamily } from "../../src/backend/cuda/launch/kernel-modules.js";
import { writeParameters } from "../../src/backend/cuda/launch/parameter-layout.js";
import { FILL } from "../../src/backend/cuda/steps/pointwise-layouts.js";
import { fromHalfBits } from "../support/element-types.js";

export interface KernelLaunch {
  readonly family: KernelFamily;
  readonly name: string;
  readonly grid: readonly [x: number, y?: number, z?: number];
  readonly block: number;
  readonly parameters: Uint8Array;
  /** Dynamic shared memory, bytes. */
  readonly shared?: number;
  /** Whether it may begin before the kernel ahead has ended; default: in captured(). */
  readonly overlap?: boolean;
  /** All blocks at once. */
  readonly together?: boolean;
  /** Blocks of a cluster. */
  readonly cluster?: number;
}

/** The value of every fp16 number. */
const HALVES = Float32Array.from({ length: 65536 }, (_, bits) => fromHalfBits(bits));

const ROUNDS = 5;
const MOST_SHOWN = 40;

export class KernelBench {
  readonly gpu: DeviceContext;
  failures = 0;
  #capturing = false;

  constructor(gpu: DeviceContext) {
    this.gpu = gpu;
  }

  launch({ family, shared = 0, overlap = this.#capturing, ...launch }: KernelLaunch): void {
    const kernel = this.gpu.kernels.get(family, launch.name, shared);
    this.gpu.launcher.launch(this.gpu.stream, { ...launch, kernel, shared, overlap });
  }

  /** A graph of calls whose kernels may overlap, as the engine captures them. */
  captured(calls: number, run: (call: number) => void): bigint {
    run(0); // loads the kernel, which a capture cannot
    this.#capturing = true;
    try {
      return this.gpu.capture(() => {
        for (let call = 0; call < calls; call++) run(call);
      });
    } finally {
      this.#capturing = false;
    }
  }

  /** Milliseconds per call, median of five rounds of `calls`, by events. */
  timed(calls: number, run: (call: number) => void): number {
    const { driver, stream } = this.gpu;
    const [begin, end] = [driver.u64("cuEventCreate", [0]), driver.u64("cuEventCreate", [0])];
    const rounds: number[] = [];
    for (let round = 0; round < ROUNDS + 1; round++) {
      driver.call("cuEventRecord", [begin, stream]);
      for (let call = 0; call < calls; call++) run(call);
      driver.call("cuEventRecord", [end, stream]);
      this.gpu.synchronize();
      const ms = new Float32Array(1);
      driver.call("cuEventElapsedTime_v2", [ms, begin, end]);
      if (round > 0) rounds.push(ms[0]! / calls);
    }
    driver.call("cuEventDestroy_v2", [begin]);
    driver.call("cuEventDestroy_v2", [end]);
    return rounds.sort((a, b) => a - b)[ROUNDS >> 1]!;
  }

  /** Milliseconds per call in replays of a graph of them. */
  timedGraph(calls: number, run: (call: number) => void): number {
    const graph = this.captured(calls, run);
    return this.timed(1, () => this.gpu.launchGraph(graph)) / calls;
  }

  upload(data: NodeJS.ArrayBufferView): bigint {
    const pointer = this.gpu.allocate(data.byteLength);
    this.gpu.copyIn(pointer, data);
    this.gpu.synchronize();
    return pointer;
  }

  download(from: bigint, count: number): Float32Array<ArrayBuffer> {
    const data = new Float32Array(count);
    this.gpu.copyOut(data, from);
    this.gpu.synchronize();
    return data;
  }

  /** An even number of halves. */
  downloadHalves(from: bigint, count: number): Float32Array<ArrayBuffer> {
    const bits = new Uint16Array(this.download(from, count / 2).buffer);
    const values = new Float32Array(count);
    for (let i = 0; i < count; i++) values[i] = HALVES[bits[i]!]!;
    return values;
  }

  /** New memory of `count` halves (an even number), roughly normal with deviation `scale`. */
  halves(count: number, scale = 1): bigint {
    const pointer = this.gpu.allocate(count * 2);
    this.fillHalves(pointer, count, scale);
    return pointer;
  }

  fillHalves(to: bigint, count: number, scale = 1): void {
    this.#fill(to, count / 2, 1, scale);
  }

  /** Random bits, a multiple of four bytes. */
  fillBits(to: bigint, bytes: number): void {
    this.#fill(to, bytes / 4, 0, 0);
  }

  #fill(to: bigint, words: number, asHalf: 0 | 1, scale: number): void {
    const parameters = writeParameters(FILL, { to, words: BigInt(words), seed: to, asHalf, scale });
    this.launch({ family: "pointwise", name: "fill_random", grid: [1024], block: 256, parameters });
  }

  free(...pointers: readonly bigint[]): void {
    for (const pointer of pointers) if (pointer !== 0n) this.gpu.free(pointer);
  }

  compare(what: string, got: ArrayLike<number>, truth: ArrayLike<number>, tolerance: number): void {
    let worst = 0;
    for (let i = 0; i < got.length; i++) {
      const error = Math.abs(got[i]! - truth[i]!);
      if (!(error <= worst)) worst = error; // so that NaN ends up in it
    }
    if (!(worst <= tolerance)) this.fail(`${what}: off by ${worst}, allowed ${tolerance}`);
  }

  /** Bit by bit. */
  same(what: string, got: Float32Array, first: Float32Array): void {
    for (let i = 0; i < got.length; i++)
      if (!Object.is(got[i], first[i])) {
        this.fail(`${what}: other bits`);
        return;
      }
  }

  fail(message: string): void {
    if (++this.failures <= MOST_SHOWN) console.log(`FAILED ${message}`);
  }
}
