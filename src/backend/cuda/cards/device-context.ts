// One card in use: its primary context, one stream, and everything taken in it, so that
// closing gives all of it back whatever happened before. Opening a context is what makes the
// driver take the baseline, so nothing opens one on a device that the plan leaves out.

import type { CudaDriver } from "../driver/driver.js";
import { viewOf } from "../driver/load.js";
import { KernelModules } from "../launch/kernel-modules.js";
import { Launcher } from "../launch/launch.js";
import { builtTargets, type Capability, compiledFor } from "./compiled-for.js";

const SCHEDULE_AUTO = 0;
const STREAM_NON_BLOCKING = 1;
const EVENT_DISABLE_TIMING = 2;
/** Usable from every context, and visible to kernels. */
const HOST_PORTABLE_MAPPED = 1 | 2;
/** CU_DEVICE_ATTRIBUTE_… */
const ATTRIBUTE = { multiprocessors: 16, major: 75, minor: 76, sharedPerBlock: 97 } as const;
const PEER_ALREADY_ENABLED = 704;

/** What launches are made for; the compute capability is that which the kernels were compiled for, see compiledFor(). */
export interface CardShape extends Capability {
  readonly multiprocessors: number;
  /** Most dynamic shared memory of a block, bytes. */
  readonly sharedPerBlock: number;
}

/** Other kernels than a card's own, for tests: code of another card that this one runs. */
export interface KernelImage {
  /** An image of each family. */
  readonly folder: string;
  /** What launches are made for in the card's place. */
  readonly card: Pick<CardShape, "major" | "minor" | "sharedPerBlock">;
}

/** Host memory that the card copies from and to by itself. */
export interface PinnedMemory {
  readonly address: bigint;
  /** Not to be touched after it has been freed. */
  readonly buffer: ArrayBuffer;
}

export class DeviceContext {
  readonly driver: CudaDriver;
  readonly ordinal: number;
  /** As the user knows it: `cuda:0`. */
  readonly id: string;
  readonly handle: bigint;
  readonly stream: bigint;
  readonly kernels: KernelModules;
  readonly launcher: Launcher;
  readonly card: CardShape;
  readonly #allocations = new Set<bigint>();
  readonly #pinned = new Set<bigint>();
  readonly #events = new Set<bigint>();
  readonly #graphs = new Set<bigint>();
  #open = true;

  /** @throws {CudaError} with nothing left behind */
  static open(driver: CudaDriver, ordinal: number, id: string, image?: KernelImage): DeviceContext {
    const site = { device: id };
    driver.call("cuDevicePrimaryCtxSetFlags_v2", [ordinal, SCHEDULE_AUTO], site);
    const context = driver.u64("cuDevicePrimaryCtxRetain", [ordinal], site);
    let stream: bigint | undefined;
    try {
      driver.call("cuCtxSetCurrent", [context], site);
      stream = driver.u64("cuStreamCreate", [STREAM_NON_BLOCKING], site);
      const attribute = (which: number) => driver.i32("cuDeviceGetAttribute", [which, ordinal], site);
      const card: CardShape = {
        multiprocessors: attribute(ATTRIBUTE.multiprocessors),
        sharedPerBlock: attribute(ATTRIBUTE.sharedPerBlock),
        ...(image?.card ?? compiledFor({ major: attribute(ATTRIBUTE.major), minor: attribute(ATTRIBUTE.minor) }, builtTargets())),
      };
      return new DeviceContext(driver, { ordinal, id, context, stream, card, folder: image?.folder });
    } catch (error) {
      if (stream !== undefined) driver.invoke("cuStreamDestroy_v2", [stream]);
      driver.invoke("cuDevicePrimaryCtxRelease_v2", [ordinal]);
      throw error;
    }
  }

  private constructor(
    driver: CudaDriver,
    opened: {
      ordinal: number;
      id: string;
      context: bigint;
      stream: bigint;
      card: CardShape;
      folder: string | undefined;
    },
  ) {
    this.driver = driver;
    this.ordinal = opened.ordinal;
    this.id = opened.id;
    this.stream = opened.stream;
    this.handle = opened.context;
    this.card = opened.card;
    this.kernels = new KernelModules(driver, opened.id, opened.folder);
    this.launcher = new Launcher(driver, opened.id);
  }

  /** Makes this card the one that the calls of this thread mean. */
  use(): this {
    this.driver.call("cuCtxSetCurrent", [this.handle], this.#site);
    return this;
  }

  /** @throws {CudaError} CUDA_OUT_OF_MEMORY with the bytes asked and free */
  allocate(bytes: number): bigint {
    const { free } = this.driver.memoryInfo(this.#site);
    const pointer = this.driver.u64("cuMemAlloc_v2", [bytes], { device: this.id, bytes, free });
    this.#allocations.add(pointer);
    return pointer;
  }

  free(pointer: bigint): void {
    if (this.#allocations.delete(pointer)) this.driver.invoke("cuMemFree_v2", [pointer]);
  }

  /** Host memory for the card's own copies, mapped for kernels. */
  allocatePinned(bytes: number): PinnedMemory {
    const address = this.driver.u64("cuMemHostAlloc", [bytes, HOST_PORTABLE_MAPPED], { device: this.id, bytes });
    this.#pinned.add(address);
    return { address, buffer: viewOf(address, bytes) };
  }

  freePinned({ address }: PinnedMemory): void {
    if (this.#pinned.delete(address)) this.driver.invoke("cuMemFreeHost", [address]);
  }

  /** Where kernels see pinned memory. */
  devicePointer({ address }: PinnedMemory): bigint {
    return this.driver.u64("cuMemHostGetDevicePointer_v2", [address, 0], this.#site);
  }

  createEvent(): bigint {
    const event = this.driver.u64("cuEventCreate", [EVENT_DISABLE_TIMING], this.#site);
    this.#events.add(event);
    return event;
  }

  destroyEvent(event: bigint): void {
    if (this.#events.delete(event)) this.driver.invoke("cuEventDestroy_v2", [event]);
  }

  record(event: bigint): void {
    this.driver.call("cuEventRecord", [event, this.stream], this.#site);
  }

  /** What is launched from now on waits for an event, also one of another card. */
  waitFor(event: bigint): void {
    this.driver.call("cuStreamWaitEvent", [this.stream, event, 0], this.#site);
  }

  /** Lets kernels and copies of this card reach another card's memory; false where they cannot. */
  enablePeer(other: DeviceContext): boolean {
    if (this.driver.i32("cuDeviceCanAccessPeer", [this.ordinal, other.ordinal], this.#site) === 0) return false;
    this.use();
    const status = this.driver.invoke("cuCtxEnablePeerAccess", [other.handle, 0]);
    if (status !== 0 && status !== PEER_ALREADY_ENABLED) throw this.driver.error("cuCtxEnablePeerAccess", status, this.#site);
    return true;
  }

  /** Host to device on this card's stream. Pageable memory has been read when this returns. */
  copyIn(to: bigint, from: NodeJS.ArrayBufferView): void {
    this.driver.call("cuMemcpyHtoDAsync_v2", [to, from, from.byteLength, this.stream], this.#site);
  }

  /** Device to host; complete after `synchronize()`. */
  copyOut(to: NodeJS.ArrayBufferView, from: bigint): void {
    this.driver.call("cuMemcpyDtoHAsync_v2", [to, from, to.byteLength, this.stream], this.#site);
  }

  /** Within this card. */
  copyInside(to: bigint, from: bigint, bytes: number): void {
    this.driver.call("cuMemcpyDtoDAsync_v2", [to, from, bytes, this.stream], this.#site);
  }

  fill(to: bigint, byte: number, bytes: number): void {
    this.driver.call("cuMemsetD8Async", [to, byte, bytes, this.stream], this.#site);
  }

  synchronize(): void {
    this.driver.call("cuStreamSynchronize", [this.stream], this.#site);
  }

  /** Records what `launch` puts on the stream instead of running it. @returns what launchGraph() takes */
  capture(launch: () => void): bigint {
    this.driver.call("cuStreamBeginCapture_v2", [this.stream, CAPTURE_THREAD_LOCAL], this.#site);
    const graph = new BigUint64Array(1);
    try {
      launch();
    } catch (error) {
      // A stream left capturing could not even be destroyed properly.
      this.driver.invoke("cuStreamEndCapture", [this.stream, graph]);
      if (graph[0]) this.driver.invoke("cuGraphDestroy", [graph[0]]);
      throw error;
    }
    this.driver.call("cuStreamEndCapture", [this.stream, graph], this.#site);
    try {
      const executable = this.driver.u64("cuGraphInstantiateWithFlags", [graph[0] as bigint, 0n], this.#site);
      this.#graphs.add(executable);
      return executable;
    } finally {
      this.driver.invoke("cuGraphDestroy", [graph[0] as bigint]);
    }
  }

  launchGraph(graph: bigint): void {
    this.driver.call("cuGraphLaunch", [graph, this.stream], this.#site);
  }

  destroyGraph(graph: bigint): void {
    if (this.#graphs.delete(graph)) this.driver.invoke("cuGraphExecDestroy", [graph]);
  }

  /** Gives everything back, whatever state it is in. Idempotent. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    const { driver } = this;
    driver.invoke("cuCtxSetCurrent", [this.handle]);
    driver.invoke("cuStreamSynchronize", [this.stream]);
    for (const graph of this.#graphs) driver.invoke("cuGraphExecDestroy", [graph]);
    for (const event of this.#events) driver.invoke("cuEventDestroy_v2", [event]);
    for (const pointer of this.#allocations) driver.invoke("cuMemFree_v2", [pointer]);
    for (const address of this.#pinned) driver.invoke("cuMemFreeHost", [address]);
    for (const set of [this.#graphs, this.#events, this.#allocations, this.#pinned]) set.clear();
    this.kernels.unload();
    driver.invoke("cuStreamDestroy_v2", [this.stream]);
    driver.invoke("cuDevicePrimaryCtxRelease_v2", [this.ordinal]);
  }

  get #site(): { device: string } {
    return { device: this.id };
  }
}

const CAPTURE_THREAD_LOCAL = 1;
