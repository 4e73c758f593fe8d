// The operands of a pickle's instructions, read one after the other.

import { TorchFileError } from "./errors.js";

export class PickleBytes {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #file: string;
  #at = 0;

  /** @param file name for messages */
  constructor(bytes: Uint8Array, file: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#file = file;
  }

  get atEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  u8(): number {
    return this.take(1).getUint8(0);
  }

  /** Little-endian two's complement; only what a count can be. */
  long(bytes: number): number {
    const view = this.take(bytes);
    let value = 0n;
    for (let i = bytes - 1; i >= 0; i--) value = (value << 8n) | BigInt(view.getUint8(i));
    value = BigInt.asIntN(bytes * 8, value);
    if (value < Number.MIN_SAFE_INTEGER || value > Number.MAX_SAFE_INTEGER)
      throw this.#fault("its pickle has an integer beyond 2^53");
    return Number(value);
  }

  text(bytes: number): string {
    const { buffer, byteOffset, byteLength } = this.take(bytes);
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(new Uint8Array(buffer, byteOffset, byteLength));
    } catch {
      throw this.#fault("a text in its pickle is not UTF-8");
    }
  }

  line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end < 0) throw this.#fault("its pickle ends too early");
    const text = this.text(end - this.#at);
    this.#at = end + 1;
    return text;
  }

  take(bytes: number): DataView {
    if (bytes > this.#bytes.length - this.#at) throw this.#fault("its pickle ends too early");
    const view = new DataView(this.#view.buffer, this.#view.byteOffset + this.#at, bytes);
    this.#at += bytes;
    return view;
  }

  #fault(message: string): TorchFileError {
    return new TorchFileError(this.#file, message);
  }
}
