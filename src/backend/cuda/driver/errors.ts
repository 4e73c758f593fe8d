// What can go wrong at the driver's border, each with what to do about it.

import { ExllamaError } from "../../../errors.js";
import { formatBytes } from "../../../memory/size.js";

/** Least driver that runs kernels built with CUDA 13.0. */
export const LEAST_DRIVER = { linux: "580", windows: "580" } as const;

/** No libcuda or NVML, or one that lacks functions. */
export class DriverMissingError extends ExllamaError {
  constructor(message: string, cause?: unknown) {
    super("CUDA_DRIVER_MISSING", message, {
      hint: `install an NVIDIA driver of version ${LEAST_DRIVER.linux} or newer, or use --backend cpu`,
      cause,
    });
  }
}

/** The package through which a driver is called is not there: nothing can be said of the driver. */
export class DriverBindingError extends ExllamaError {
  constructor(cause: unknown) {
    const why = cause instanceof Error ? cause.message.split("\n")[0] : String(cause);
    super("CUDA_BINDING_MISSING", `koffi, through which the NVIDIA driver is called, cannot be loaded: ${why}`, {
      hint: "install this package again on this machine, with the packages it depends on (koffi brings a binary for each system), or use --backend cpu",
      cause,
    });
  }
}

/** The driver is there but this program cannot use it or any of its devices. */
export class CudaUnavailableError extends ExllamaError {
  constructor(
    code: "CUDA_DRIVER_TOO_OLD" | "CUDA_NO_DEVICE" | "CUDA_DEVICE_TOO_OLD" | "CUDA_MIG" | "CUDA_DEVICES_BUSY",
    message: string,
    hint: string,
    details: Record<string, unknown> = {},
  ) {
    super(code, message, { hint, details });
  }
}

/** A driver call failed. */
export class CudaError extends ExllamaError {
  /** The CUresult. */
  readonly status: number;

  constructor(call: { function: string; status: number; name: string; device: string | null; bytes?: number; free?: number }) {
    const where = call.device === null ? "" : ` on ${call.device}`;
    const asked =
      call.bytes === undefined
        ? ""
        : ` (asked for ${formatBytes(call.bytes)}${call.free === undefined ? "" : `, ${formatBytes(call.free)} free`})`;
    super(
      isPoison(call.status) ? "CUDA_POISONED" : call.status === OUT_OF_MEMORY ? "CUDA_OUT_OF_MEMORY" : "CUDA_ERROR",
      `${call.function} failed${where}: ${call.name}${asked}`,
      {
        hint: isPoison(call.status)
          ? "the engine process cannot go on and is replaced; load the model again"
          : call.status === OUT_OF_MEMORY
            ? "another process may have taken the memory: look with `exllama devices`, lower --gpu-split or --ctx"
            : undefined,
        details: { ...call },
      },
    );
    this.status = call.status;
  }
}

export const OUT_OF_MEMORY = 2;
export const NOT_READY = 600;

/** Errors after which the process must end (cuda.h: "the process must be terminated and relaunched"). */
const POISON = new Set([700, 702, 714, 715, 716, 717, 718, 719]);

export function isPoison(status: number): boolean {
  return POISON.has(status);
}
