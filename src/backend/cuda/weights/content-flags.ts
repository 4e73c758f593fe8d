// What the kernels found wrong with tensors while bringing them into place: one word for each
// checked tensor, read back when the words are used up and at the end, so that checking
// does not make the card wait for the host.

import type { DeviceContext } from "../cards/device-context.js";
import { TensorRangeError } from "../errors.js";

export class ContentFlags {
  readonly #context: DeviceContext;
  readonly #at: bigint;
  readonly #words: Uint32Array<ArrayBuffer>;
  readonly #checked: { readonly tensor: string; readonly perOutput: boolean }[] = [];

  /** @param at device memory of `bytes` bytes */
  constructor(context: DeviceContext, at: bigint, bytes: number) {
    this.#context = context;
    this.#at = at;
    this.#words = new Uint32Array(bytes / 4);
    context.fill(at, 0, bytes);
  }

  /**
   * The word for one tensor: 0 stays for "nothing wrong".
   *
   * @param perOutput the kernel writes 1 + the output, not 1
   */
  take(tensor: string, perOutput: boolean): bigint {
    if (this.#checked.length === this.#words.length) this.verify();
    this.#checked.push({ tensor, perOutput });
    return this.#at + BigInt((this.#checked.length - 1) * 4);
  }

  /** @throws {TensorRangeError} naming the first tensor that is not as it should be */
  verify(): void {
    this.#context.copyOut(this.#words, this.#at);
    this.#context.synchronize();
    const wrong = this.#checked.findIndex((_, index) => this.#words[index] !== 0);
    const found = this.#checked[wrong];
    if (found) throw new TensorRangeError(found.tensor, found.perOutput ? this.#words[wrong]! - 1 : null);
    this.#checked.length = 0;
    this.#context.fill(this.#at, 0, this.#words.byteLength);
  }
}
