// Reading tensors into arenas while a model is loaded: in slabs, so that an abort is heard and
// progress is seen, and never past what the header promised.

import type { Checkpoint, Dtype, TensorInfo } from "../../checkpoint/checkpoint.js";
import type { LoadProgress } from "../backend.js";
import { CpuLoadError } from "./errors.js";

/** An abort is noticed after this many bytes at most. */
const READ_BYTES = 8 * 2 ** 20;

export class TensorReader {
  readonly #checkpoint: Checkpoint;
  readonly #signal: AbortSignal | undefined;
  readonly #onProgress: ((progress: LoadProgress) => void) | undefined;
  readonly #totalBytes: number;
  readonly #ends = new Map<SharedArrayBuffer, number>();
  #loadedBytes = 0;

  /** @param totalBytes of all tensors that will be read */
  constructor(
    checkpoint: Checkpoint,
    totalBytes: number,
    signal: AbortSignal | undefined,
    onProgress: ((progress: LoadProgress) => void) | undefined,
  ) {
    this.#checkpoint = checkpoint;
    this.#totalBytes = totalBytes;
    this.#signal = signal;
    this.#onProgress = onProgress;
  }

  /**
   * A tensor of the checkpoint, which must hold exactly `bytes`.
   *
   * @throws {CpuLoadError} when there is none, or it has another size: the model was made from other headers
   */
  find(name: string, bytes: number): TensorInfo {
    const tensor = this.#get(name);
    if (tensor.bytes !== bytes)
      throw new CpuLoadError(`${name} holds ${tensor.bytes} bytes where the model needs ${bytes}`, { details: { tensor: name } });
    return tensor;
  }

  get tensors(): ReadonlyMap<string, TensorInfo> {
    return this.#checkpoint.tensors;
  }

  dtype(name: string): Dtype {
    return this.#get(name).dtype;
  }

  /**
   * Reads `bytes` bytes of a tensor, from `offset`, to byte `at` of the arena.
   *
   * @param counts false: they have been read before, and are no progress
   */
  async read(
    tensor: TensorInfo,
    offset: number,
    bytes: number,
    buffer: SharedArrayBuffer,
    at: number,
    counts = true,
  ): Promise<void> {
    for (let done = 0; done < bytes; done += READ_BYTES) {
      this.#signal?.throwIfAborted();
      const count = Math.min(READ_BYTES, bytes - done);
      await this.#checkpoint.read(tensor, offset + done, new Uint8Array(buffer, at + done, count));
      if (!counts) continue;
      this.#loadedBytes += count;
      this.#onProgress?.({ loadedBytes: this.#loadedBytes, totalBytes: this.#totalBytes });
    }
    this.#ends.set(buffer, Math.max(this.end(buffer), at + bytes));
    this.#signal?.throwIfAborted();
  }

  /** Highest byte of this memory that anything was read to, and one. */
  end(buffer: SharedArrayBuffer): number {
    return this.#ends.get(buffer) ?? 0;
  }

  #get(name: string): TensorInfo {
    const tensor = this.#checkpoint.tensors.get(name);
    if (!tensor) throw new CpuLoadError(`${this.#checkpoint.source} has no tensor ${name}`);
    return tensor;
  }
}
