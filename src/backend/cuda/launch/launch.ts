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
  /** Blocks of a cluster, which run at once and reach each other's shared memory (sm_90 and later); a divisor of the grid's x. */
  readonly cluster?: number | undefined;
}

/** CUlaunchConfig: seven u32, padding, stream, attributes, their number. */
const CONFIG_BYTES = 56;
/** CUlaunchAttribute: id, padding, a 64-byte value. */
const ATTRIBUTE_BYTES = 72;
const MOST_ATTRIBUTES = 3;
const COOPERATIVE = 2;
const CLUSTER_DIMENSION = 4;
const PROGRAMMATIC_STREAM_SERIALIZATION = 6;

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
    const config = this.#configure(stream, launch);
    this.#pointers[0] = addressOf(launch.parameters);
    this.#driver.call("cuLaunchKernelEx", [config, launch.kernel, this.#pointers, null], this.#site(launch));
  }

  /** How many of its clusters the card has room for at once; for measurements. */
  clustersAtOnce(launch: Omit<Launch, "parameters">): number {
    return this.#driver.i32("cuOccupancyMaxActiveClusters", [launch.kernel, this.#configure(0n, launch)], this.#site(launch));
  }

  #configure(stream: bigint, launch: Omit<Launch, "parameters">): DataView {
    const config = this.#config;
    const [x, y = 1, z = 1] = launch.grid;
    [x, y, z, launch.block, 1, 1, launch.shared ?? 0].forEach((value, index) => {
      config.setUint32(4 * index, value, true);
    });
    config.setBigUint64(32, stream, true);
    let attributes = 0;
    const attribute = (id: number, ...value: readonly number[]) => {
      const at = ATTRIBUTE_BYTES * attributes++;
      this.#attributes.setUint32(at, id, true);
      value.forEach((word, index) => {
        this.#attributes.setUint32(at + 8 + 4 * index, word, true);
      });
    };
    if (launch.overlap) attribute(PROGRAMMATIC_STREAM_SERIALIZATION, 1);
    if (launch.together) attribute(COOPERATIVE, 1);
    if (launch.cluster !== undefined) attribute(CLUSTER_DIMENSION, launch.cluster, 1, 1);
    config.setBigUint64(40, attributes > 0 ? addressOf(this.#attributes) : 0n, true);
    config.setUint32(48, attributes, true);
    return config;
  }

  #site({ name }: Pick<Launch, "name">): { device: string } {
    return { device: `${this.#device}, kernel ${name}` };
  }
}
