// Where weights come from: files, read through two pinned buffers while the card copies from the
// other one; or nowhere, for synthetic models whose weights are made on the device.

import type { Checkpoint, TensorInfo } from "../../../checkpoint/checkpoint.js";
import { MiB } from "../../../memory/size.js";
import type { LoadProgress } from "../../backend.js";
import type { DeviceContext, PinnedMemory } from "../cards/device-context.js";
import { CudaLoadError } from "../errors.js";

/** Large enough that a copy's start-up does not show, small enough that an abort is heard at once. */
const BUFFER_BYTES = 16 * MiB;
/** What is not a tensor of the checkpoint is sent through the buffers too. */
const LEAST_BUFFER_BYTES = MiB / 4;

export interface LoadEvents {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: LoadProgress) => void;
}

/** Reads tensors of one checkpoint and counts what has been read. */
export class TensorSource {
  readonly #checkpoint: Checkpoint;
  readonly #events: LoadEvents;
  readonly #totalBytes: number;
  #loadedBytes = 0;

  /** @param totalBytes of everything that will be read */
  constructor(checkpoint: Checkpoint, totalBytes: number, events: LoadEvents) {
    this.#checkpoint = checkpoint;
    this.#totalBytes = totalBytes;
    this.#events = events;
  }

  /**
   * A tensor that must hold exactly `bytes`.
   *
   * @throws {CudaLoadError} when there is none, or it has another size: the model was made from other headers
   */
  find(name: string, bytes?: number): TensorInfo {
    const tensor = this.#checkpoint.tensors.get(name);
    if (!tensor) throw new CudaLoadError(`the checkpoint has no tensor ${name}`, { details: { tensor: name } });
    if (bytes !== undefined && tensor.bytes !== bytes)
      throw new CudaLoadError(`${name} holds ${tensor.bytes} bytes where the model needs ${bytes}`, {
        details: { tensor: name },
      });
    return tensor;
  }

  /** The largest piece that it is of use to read at once. */
  pieceBytes(): number {
    let most = LEAST_BUFFER_BYTES;
    for (const { bytes } of this.#checkpoint.tensors.values()) most = Math.max(most, bytes);
    return Math.min(most, BUFFER_BYTES);
  }

  /** Fills `into` with a tensor's bytes from `offset`. */
  async read(tensor: TensorInfo, offset: number, into: Uint8Array): Promise<void> {
    for (let done = 0; done < into.byteLength; done += BUFFER_BYTES) {
      this.#events.signal?.throwIfAborted();
      const part = into.subarray(done, done + BUFFER_BYTES);
      await this.#checkpoint.read(tensor, offset + done, part);
      this.#loadedBytes += part.byteLength;
      this.#events.onProgress?.({ loadedBytes: this.#loadedBytes, totalBytes: this.#totalBytes });
    }
    this.#events.signal?.throwIfAborted();
  }
}

interface Buffer {
  readonly memory: PinnedMemory;
  readonly event: bigint;
  /** The card may still be copying from it. */
  busy: boolean;
}

/** Streams tensors into one card's memory. Its context must be current while it is used. */
export class Uploader {
  readonly #context: DeviceContext;
  readonly #source: TensorSource;
  readonly #buffers: Buffer[] = [];
  readonly #bufferBytes: number;
  #next = 0;

  constructor(context: DeviceContext, source: TensorSource) {
    this.#context = context;
    this.#source = source;
    this.#bufferBytes = source.pieceBytes();
    try {
      for (let i = 0; i < 2; i++)
        this.#buffers.push({ memory: context.allocatePinned(this.#bufferBytes), event: context.createEvent(), busy: false });
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** `bytes` of a tensor from `offset` to device memory; what is launched afterwards finds them there. */
  async upload(tensor: TensorInfo, offset: number, bytes: number, to: bigint): Promise<void> {
    for (let done = 0; done < bytes; done += this.#bufferBytes) {
      const count = Math.min(this.#bufferBytes, bytes - done);
      await this.#through(count, to + BigInt(done), (view) => this.#source.read(tensor, offset + done, view));
    }
  }

  /** Host memory to device memory. */
  async send(from: Uint8Array, to: bigint): Promise<void> {
    for (let done = 0; done < from.byteLength; done += this.#bufferBytes) {
      const part = from.subarray(done, done + this.#bufferBytes);
      await this.#through(part.byteLength, to + BigInt(done), async (view) => view.set(part));
    }
  }

  async #through(bytes: number, to: bigint, fill: (view: Uint8Array) => Promise<void>): Promise<void> {
    const buffer = this.#buffers[this.#next]!;
    this.#next = 1 - this.#next;
    if (buffer.busy) this.#context.driver.call("cuEventSynchronize", [buffer.event], { device: this.#context.id });
    buffer.busy = false;
    const view = new Uint8Array(buffer.memory.buffer, 0, bytes);
    await fill(view);
    // A second load in this thread may have made another card current while this one waited for the disk.
    this.#context.use();
    this.#context.copyIn(to, view);
    this.#context.record(buffer.event);
    buffer.busy = true;
  }

  /** The card must have finished: see DeviceContext.synchronize(). */
  close(): void {
    for (const { memory, event } of this.#buffers) {
      this.#context.freePinned(memory);
      this.#context.destroyEvent(event);
    }
    this.#buffers.length = 0;
  }
}
