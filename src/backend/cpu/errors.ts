// What can go wrong in the CPU backend, beyond what the plan has refused already.

import { ExllamaError } from "../../errors.js";

/** The plan or the model is not one that this backend can load. */
export class CpuLoadError extends ExllamaError {
  constructor(message: string, options: { hint?: string; details?: Record<string, unknown>; cause?: unknown } = {}) {
    super("CPU_LOAD", message, options);
  }
}

/** The memory that the plan promised could not be had: other processes took it, or the system allows less. */
export class CpuMemoryError extends ExllamaError {
  constructor(bytes: number, cause: unknown) {
    super("CPU_MEMORY", `the system refused ${bytes} bytes of shared memory for the model`, {
      hint: "Free some memory or raise the process's address space limit, or plan with a smaller --ctx.",
      details: { bytes },
      cause,
    });
  }
}

/** A tensor holds infinities or NaN where a model cannot have any. */
export class NonFiniteTensorError extends ExllamaError {
  constructor(tensor: string, index: number) {
    super("TENSOR_NOT_FINITE", `${tensor} holds an infinity or NaN (value ${index})`, {
      hint: "The checkpoint is damaged: download or quantise it again.",
      details: { tensor, index },
    });
  }
}

/** A compute thread died, or the runtime has been given back already. The model must be loaded again. */
export class CpuRuntimeEndedError extends ExllamaError {
  constructor(message: string, cause?: unknown) {
    super("CPU_RUNTIME_ENDED", message, { hint: "Load the model again.", cause });
  }
}
