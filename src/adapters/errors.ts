// What can be wrong with an adapter: its folder, its configuration, its tensors, or the format of
// an old PyTorch file.

import { ExllamaError } from "../errors.js";

type Options = { hint?: string; details?: Record<string, unknown>; cause?: unknown };

/** No such folder or file, or nothing in it that could be an adapter. */
export class AdapterNotFoundError extends ExllamaError {
  constructor(message: string, options: Options = {}) {
    super("ADAPTER_NOT_FOUND", message, options);
  }
}

/** adapter_config.json says something that cannot be, or contradicts the tensors. */
export class AdapterConfigError extends ExllamaError {
  constructor(message: string, options: Options = {}) {
    super("ADAPTER_CONFIG", message, options);
  }
}

/** A kind of adapter, or a part of one, that this program does not apply. */
export class UnsupportedAdapterError extends ExllamaError {
  constructor(message: string, options: Options = {}) {
    super("ADAPTER_UNSUPPORTED", message, {
      hint: "LoRA on q, k, v, o, gate, up and down projections is applied; merge anything else into the model first.",
      ...options,
    });
  }
}

/** Tensors that are missing, have the wrong shape, or do not go with the model. */
export class AdapterTensorError extends ExllamaError {
  constructor(message: string, options: Options = {}) {
    super("ADAPTER_TENSOR", message, options);
  }
}

/** A PyTorch file that is damaged, or holds more than plain tensors: nothing in it is ever executed. */
export class TorchFileError extends ExllamaError {
  constructor(file: string, message: string, options: Options = {}) {
    super("TORCH_FILE", `${file}: ${message}`, {
      hint: "Use the adapter's safetensors file, or save it again with safe_serialization=True.",
      ...options,
      details: { file, ...options.details },
    });
  }
}
