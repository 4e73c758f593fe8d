// Launches of one card by family, name and parameters: what the loader and the forward pass
// have in common.

import type { DeviceContext } from "./device-context.js";
import type { KernelFamily } from "./kernel-modules.js";

export interface KernelCall {
  readonly family: KernelFamily;
  readonly name: string;
  readonly grid: readonly [x: number, y?: number, z?: number];
  readonly block: number;
  readonly parameters: Uint8Array;
  /** Dynamic shared memory, bytes. */
  readonly shared?: number;
}

export class KernelQueue {
  readonly context: DeviceContext;
  readonly #overlap: boolean;

  /** @param overlap kernels wait for those before them by themselves, after their own preparations */
  constructor(context: DeviceContext, overlap: boolean) {
    this.context = context;
    this.#overlap = overlap && context.card.major >= 9; // programmatic dependent launch came with sm_90
  }

  run({ family, name, grid, block, parameters, shared = 0 }: KernelCall): void {
    const kernel = this.context.kernels.get(family, name, shared);
    this.context.launcher.launch(this.context.stream, { kernel, name, grid, block, parameters, shared, overlap: this.#overlap });
  }
}
