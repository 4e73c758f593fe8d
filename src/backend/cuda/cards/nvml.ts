// What NVIDIA's management library says of cards without creating a context on them: sizes and
// who uses them. It knows nothing of CUDA_VISIBLE_DEVICES, so cards are found by their UUID.

import { CudaUnavailableError } from "../driver/errors.js";
import type { NvmlFunctions } from "../driver/functions.js";

export interface CardMemory {
  readonly total: number;
  readonly free: number;
}

const NOT_SUPPORTED = 3; // NVML_ERROR_NOT_SUPPORTED

export class Nvml {
  readonly #functions: NvmlFunctions;

  /** @throws {CudaUnavailableError} when the library cannot be started */
  constructor(functions: NvmlFunctions) {
    this.#functions = functions;
    const status = functions.nvmlInit_v2();
    if (status !== 0)
      throw new CudaUnavailableError(
        "CUDA_NO_DEVICE",
        `NVIDIA's management library cannot be started (NVML error ${status})`,
        "look whether nvidia-smi works; in a container, give it the devices and the utility capability",
      );
  }

  /** Such as `580.82.07`. */
  driverVersion(): string {
    const text = new Uint8Array(96);
    return this.#functions.nvmlSystemGetDriverVersion(text, text.length) === 0 ? textOf(text) : "unknown";
  }

  /** A card by its UUID (`GPU-…`), or `null` where the library has none of that name. */
  find(uuid: string): bigint | null {
    const handle = new BigUint64Array(1);
    return this.#functions.nvmlDeviceGetHandleByUUID(uuid, handle) === 0 ? handle[0]! : null;
  }

  /** @throws {CudaUnavailableError} */
  memory(handle: bigint): CardMemory {
    const words = new BigUint64Array(3); // nvmlMemory_t: total, free, used
    const status = this.#functions.nvmlDeviceGetMemoryInfo(handle, words);
    if (status !== 0)
      throw new CudaUnavailableError(
        "CUDA_NO_DEVICE",
        `a card does not tell its memory (NVML error ${status})`,
        "look whether nvidia-smi works",
      );
    return { total: Number(words[0]), free: Number(words[1]) };
  }

  /** Joules that a card has used since its driver was loaded, or `null` where it does not count them. */
  energy(handle: bigint): number | null {
    const millijoules = new BigUint64Array(1);
    const status = this.#functions.nvmlDeviceGetTotalEnergyConsumption(handle, millijoules);
    return status === 0 ? Number(millijoules[0]) / 1e3 : null;
  }

  drivesDisplay(handle: bigint): boolean {
    const state = new Int32Array(1);
    return this.#functions.nvmlDeviceGetDisplayActive(handle, state) === 0 && state[0] === 1;
  }

  /** Cut into instances (MIG). */
  isPartitioned(handle: bigint): boolean {
    const [current, pending] = [new Int32Array(1), new Int32Array(1)];
    const status = this.#functions.nvmlDeviceGetMigMode(handle, current, pending);
    return status !== NOT_SUPPORTED && status === 0 && current[0] === 1;
  }

  close(): void {
    this.#functions.nvmlShutdown();
  }
}

/** A C string from a buffer that the driver wrote. */
export function textOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(bytes.subarray(0, end < 0 ? bytes.length : end));
}
