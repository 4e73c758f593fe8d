// What can go wrong in the CUDA backend beyond the driver's border, and beyond the plan.

import { ExllamaError } from "../../errors.js";
import { formatBytes } from "../../memory/size.js";

/** The plan or the model is not one that this backend can load. */
export class CudaLoadError extends ExllamaError {
  constructor(message: string, options: { hint?: string; details?: Record<string, unknown>; cause?: unknown } = {}) {
    super("CUDA_LOAD", message, options);
  }
}

/** A tensor holds infinities, NaN, or numbers that fp16 cannot hold. */
export class TensorRangeError extends ExllamaError {
  constructor(tensor: string, output: number | null) {
    const where = output === null ? "" : ` (output ${output})`;
    super("TENSOR_NOT_FINITE", `${tensor} holds an infinity, NaN, or a value beyond fp16's ±65504${where}`, {
      hint: "The checkpoint is damaged, or made for another number format: download or quantise it again, or try --backend cpu.",
      details: { tensor, output },
    });
  }
}

/** The driver took more than the plan's baseline says: the cap would not hold. */
export class BaselineExceededError extends ExllamaError {
  constructor(device: string, planned: number, measured: number) {
    super(
      "CUDA_BASELINE_EXCEEDED",
      `${device} is used by ${formatBytes(measured)} after loading where the plan says ${formatBytes(planned)} ` +
        `(${measured - planned} bytes more)`,
      {
        hint: "Load again: the measured figure has been kept and is planned with from now on (or another process took memory meanwhile).",
        details: { device, planned, measured },
      },
    );
  }
}

/** The model has been given back, or the driver can do nothing more in this process. */
export class CudaRuntimeEndedError extends ExllamaError {
  constructor(message: string, cause?: unknown) {
    super("CUDA_RUNTIME_ENDED", message, { hint: "Load the model again.", cause });
  }
}
