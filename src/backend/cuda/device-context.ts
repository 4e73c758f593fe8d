// One card in use: its primary context, one stream, and the few allocations that the plan names.
// Opening a context is what makes the driver take the baseline, so nothing opens one on a
// device that the plan leaves out.

import type { CudaDriver } from "./driver/driver.js";
import { KernelModules } from "./kernel-modules.js";
import { Launcher } from "./launch.js";

/** Blocking waits sleep in the driver instead of burning a core: a step is long against a wake-up. */
const SCHEDULE_AUTO = 0;
const STREAM_NON_BLOCKING = 1;

export class DeviceContext {
  readonly driver: CudaDriver;
  readonly ordinal: number;
  /** As the user knows it: `cuda:0`. */
  readonly id: string;
  readonly stream: bigint;
  readonly kernels: KernelModules;
  readonly launcher: Launcher;
  readonly #context: bigint;
  readonly #allocations = new Set<bigint>();
  #open = true;

  /** @throws {CudaError} with nothing left behind */
  static open(driver: CudaDriver, ordinal: number, id: string): DeviceContext {
    const site = { device: id };
    driver.call("cuDevicePrimaryCtxSetFlags_v2", [ordinal, SCHEDULE_AUTO], site);
    const context = driver.u64("cuDevicePrimaryCtxRetain", [ordinal], site);
    try {
      driver.call("cuCtxSetCurrent", [context], site);
      return new DeviceContext(driver, ordinal, id, context, driver.u64("cuStreamCreate", [STREAM_NON_BLOCKING], site));
    } catch (error) {
      driver.invoke("cuDevicePrimaryCtxRelease_v2", [ordinal]);
      throw error;
    }
  }

  private constructor(driver: CudaDriver, ordinal: number, id: string, context: bigint, stream: bigint) {
    this.driver = driver;
    this.ordinal = ordinal;
    this.id = id;
    this.stream = stream;
    this.#context = context;
    this.kernels = new KernelModules(driver, id);
    this.launcher = new Launcher(driver, id);
  }

  /** Makes this card the one that the calls of this thread mean. */
  use(): this {
    this.driver.call("cuCtxSetCurrent", [this.#context], { device: this.id });
    return this;
  }

  /** @throws {CudaError} CUDA_OUT_OF_MEMORY with the bytes asked and free */
  allocate(bytes: number): bigint {
    const { free } = this.driver.memoryInfo({ device: this.id });
    const pointer = this.driver.u64("cuMemAlloc_v2", [bytes], { device: this.id, bytes, free });
    this.#allocations.add(pointer);
    return pointer;
  }

  free(pointer: bigint): void {
    if (this.#allocations.delete(pointer)) this.driver.invoke("cuMemFree_v2", [pointer]);
  }

  /** Host to device on this card's stream. Pageable memory has been read when this returns. */
  copyIn(to: bigint, from: NodeJS.ArrayBufferView): void {
    this.driver.call("cuMemcpyHtoDAsync_v2", [to, from, from.byteLength, this.stream], { device: this.id });
  }

  /** Device to host; complete after `synchronize()`. */
  copyOut(to: NodeJS.ArrayBufferView, from: bigint): void {
    this.driver.call("cuMemcpyDtoHAsync_v2", [to, from, to.byteLength, this.stream], { device: this.id });
  }

  fill(to: bigint, byte: number, bytes: number): void {
    this.driver.call("cuMemsetD8Async", [to, byte, bytes, this.stream], { device: this.id });
  }

  synchronize(): void {
    this.driver.call("cuStreamSynchronize", [this.stream], { device: this.id });
  }

  /** Gives everything back, whatever state it is in. Idempotent. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.driver.invoke("cuCtxSetCurrent", [this.#context]);
    this.driver.invoke("cuStreamSynchronize", [this.stream]);
    for (const pointer of this.#allocations) this.driver.invoke("cuMemFree_v2", [pointer]);
    this.#allocations.clear();
    this.kernels.unload();
    this.driver.invoke("cuStreamDestroy_v2", [this.stream]);
    this.driver.invoke("cuDevicePrimaryCtxRelease_v2", [this.ordinal]);
  }
}
