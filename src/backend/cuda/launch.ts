// One launch: the driver's launch configuration with its attributes, and a pointer to the one
// structure that every kernel takes. The small buffers are reused: the driver copies them
// before the call returns, while capturing too.

import type { CudaDriver } from "./driver/driver.js";
import { addressOf } from "./driver/load.js";

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
  /** Blocks along x that run together and reach each other's shared memory (sm_90 and later); 1: none do. */
  readonly cluster?: number;
}

/** CUlaunchConfig: seven u32, padding, stream, attributes, their number. */
const CONFIG_BYTES = 56;
/** CUlaunchAttribute: id, padding, a 64-byte value. */
const ATTRIBUTE_BYTES = 72;
const CLUSTER_DIMENSION = 4;
const PROGRAMMATIC_STREAM_SERIALIZATION = 6;

export class Launcher {
  readonly #driver: CudaDriver;
  readonly #device: string;
  readonly #config = new DataView(new ArrayBuffer(CONFIG_BYTES));
  readonly #attributes = new DataView(new ArrayBuffer(2 * ATTRIBUTE_BYTES));
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
    const attributes = this.#setAttributes(launch);
    config.setBigUint64(40, attributes > 0 ? addressOf(this.#attributes) : 0n, true);
    config.setUint32(48, attributes, true);
    this.#pointers[0] = addressOf(launch.parameters);
    this.#driver.call("cuLaunchKernelEx", [config, launch.kernel, this.#pointers, null], {
      device: `${this.#device}, kernel ${launch.name}`,
    });
  }

  /** @returns their number */
  #setAttributes({ overlap = false, cluster = 1 }: Launch): number {
    let count = 0;
    const set = (id: number, ...values: number[]) => {
      const at = ATTRIBUTE_BYTES * count++;
      this.#attributes.setUint32(at, id, true);
      values.forEach((value, i) => {
        this.#attributes.setUint32(at + 8 + 4 * i, value, true);
      });
    };
    if (overlap) set(PROGRAMMATIC_STREAM_SERIALIZATION, 1);
    if (cluster > 1) set(CLUSTER_DIMENSION, cluster, 1, 1);
    return count;
  }
}
