// One launch: the driver's launch configuration with its attributes, and a pointer to the one
// structure that every kernel takes. The small buffers are reused: the driver copies them
// before the call returns, while capturing too.

import type { CudaDriver } from "../driver/driver.js";
import { addressOf } from "../driver/load.js";

export interface Launch {
  /** CUfunction. */
  readonly kernel: bigint;
  /** For errors. */
  readonly name: string;
  readonly grid: readonly [x: number, y?: number, z?: number];
  readonly block: number;
  /** Dynamic shared memory, bytes. */
  readonly shared?: number;
  readonly parameters: Uint8Array;
  /** May begin before the kernel before it has ended (programmatic dependent launch; sm_90 and later). */
  readonly overlap?: boolean;
  /** All blocks run at once, so that they may wait for each other; more of them than fit are refused. */
  readonly together?: boolean;
  /** Blocks of a cluster, which are in a row of the grid and see each other's shared memory (sm_90 and later); default: 1, no clusters. */
  readonly cluster?: number;
}

/** CUlaunchConfig: seven u32, padding, stream, attributes, their number. */
const CONFIG_BYTES = 56;
/** CUlaunchAttribute: id, padding, a 64-byte value. */
const ATTRIBUTE_BYTES = 72;
const COOPERATIVE = 2;
const CLUSTER_DIMENSION = 4;
const PROGRAMMATIC_STREAM_SERIALIZATION = 6;
const MOST_ATTRIBUTES = 3;

export class Launcher {
  readonly #driver: CudaDriver;
  readonly #device: string;
  readonly #config = new DataView(new ArrayBuffer(CONFIG_BYTES));
  readonly #attributes = new DataView(new ArrayBuffer(MOST_ATTRIBUTES * ATTRIBUTE_BYTES));
  readonly #pointers = new BigUint64Array(1);

  constructor(driver: CudaDriver, device: string) {
    this.#driver = driver;
    this.#device = device;
  }

  /** @param stream CUstream on which it runs, or which is being captured */
  launch(stream: bigint, launch: Launch): void {
    const config = this.#config;
    const [x, y = 1, z = 1] = launch.grid;
    [x, y, z, launch.block, 1, 1, launch.shared ?? 0].forEach((value, index) => {
      config.setUint32(4 * index, value, true);
    });
    config.setBigUint64(32, stream, true);
    const { overlap = false, together = false, cluster = 1 } = launch;
    let attributes = 0;
    if (overlap) this.#attribute(attributes++, PROGRAMMATIC_STREAM_SERIALIZATION, 1);
    if (together) this.#attribute(attributes++, COOPERATIVE, 1);
    if (cluster > 1) this.#attribute(attributes++, CLUSTER_DIMENSION, cluster, 1, 1);
    config.setBigUint64(40, attributes > 0 ? addressOf(this.#attributes) : 0n, true);
    config.setUint32(48, attributes, true);
    this.#pointers[0] = addressOf(launch.parameters);
    this.#driver.call("cuLaunchKernelEx", [config, launch.kernel, this.#pointers, null], {
      device: `${this.#device}, kernel ${launch.name}`,
    });
  }

  #attribute(index: number, id: number, ...value: readonly number[]): void {
    const at = ATTRIBUTE_BYTES * index;
    this.#attributes.setUint32(at, id, true);
    for (const [i, word] of value.entries()) this.#attributes.setUint32(at + 8 + 4 * i, word, true);
  }
}
