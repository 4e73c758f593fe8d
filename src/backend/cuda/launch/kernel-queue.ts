// Launches of one card by family, name and parameters: what the loader and the forward pass
// have in common.

import type { DeviceContext } from "../cards/device-context.js";
import type { KernelFamily } from "./kernel-modules.js";

export interface KernelCall {
  readonly family: KernelFamily;
  readonly name: string;
  readonly grid: readonly [x: number, y?: number, z?: number];
  readonly block: number;
  readonly parameters: Uint8Array;
  /** Dynamic shared memory, bytes. */
  readonly shared?: number;
  /** All of its blocks run at once, so that they may wait for each other. */
  readonly together?: boolean;
  /** Blocks of a cluster; default: 1, no clusters. */
  readonly cluster?: number;
  /** What it is to the step, for profiles: `qkv`, `attention`, … */
  readonly role?: string;
  /** Bytes that it has to move to or from the card's memory beside the KV cache, where a profile compares them with the time. */
  readonly bytes?: number;
  /** Layers whose keys and values it reads. */
  readonly attentions?: number;
}

export class KernelQueue {
  readonly context: DeviceContext;
  readonly #overlap: boolean;
  readonly #record: ((call: KernelCall) => void) | null;

  /**
   * @param overlap kernels wait for those before them by themselves, after their own preparations
   * @param record takes the calls instead of launching them
   */
  constructor(context: DeviceContext, overlap: boolean, record: ((call: KernelCall) => void) | null = null) {
    this.context = context;
    this.#overlap = overlap && context.card.major >= 9; // programmatic dependent launch came with sm_90
    this.#record = record;
  }

  run(call: KernelCall): void {
    if (this.#record) this.#record(call);
    else this.#launch(call);
  }

  #launch({ family, name, grid, block, parameters, shared = 0, together = false, cluster = 1 }: KernelCall): void {
    const kernel = this.context.kernels.get(family, name, shared);
    const launch = { kernel, name, grid, block, parameters, shared, together, cluster, overlap: this.#overlap };
    this.context.launcher.launch(this.context.stream, launch);
  }
}
