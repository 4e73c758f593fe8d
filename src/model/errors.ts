// Why a checkpoint cannot become a ModelSpec.

import { ExllamaError } from "../errors.js";

/** Options of every error here. */
interface Details {
  hint?: string;
  details?: Record<string, unknown>;
}

/** A value in config.json (or its companions) that is missing, of the wrong kind or out of range. */
export class ModelConfigError extends ExllamaError {
  constructor(message: string, options: Details = {}) {
    super("MODEL_CONFIG", message, options);
  }
}

/** A model or a feature that this program does not know: running it anyway would give wrong results. */
export class UnsupportedModelError extends ExllamaError {
  constructor(message: string, options: Details = {}) {
    super("MODEL_UNSUPPORTED", message, options);
  }
}

/** A tensor that the config demands is not in the checkpoint. */
export class MissingTensorError extends ExllamaError {
  constructor(tensor: string, message: string, options: Details = {}) {
    super("TENSOR_MISSING", message, { ...options, details: { tensor, ...options.details } });
  }
}

/** A tensor's shape disagrees with the config. */
export class TensorShapeError extends ExllamaError {
  constructor(tensor: string, had: readonly number[], needed: readonly number[], because: string) {
    super("TENSOR_SHAPE", `${tensor} has shape [${had.join(", ")}]; ${because} needs [${needed.join(", ")}]`, {
      hint: "config.json and the weights are not of the same model.",
      details: { tensor, had, needed },
    });
  }
}

/** A tensor's element type cannot be used in its place. */
export class TensorDtypeError extends ExllamaError {
  constructor(tensor: string, had: string, needed: readonly string[]) {
    super("TENSOR_DTYPE", `${tensor} has dtype ${had}; ${needed.join(" or ")} is needed there`, {
      details: { tensor, had, needed },
    });
  }
}

/** Tensors that nothing in the model would use: leaving them out would change what the model computes. */
export class UnexpectedTensorError extends ExllamaError {
  constructor(tensors: readonly string[], hint: string) {
    const more = tensors.length > 4 ? ` and ${tensors.length - 4} more` : "";
    super("TENSOR_UNEXPECTED", `the model has no place for ${tensors.slice(0, 4).join(", ")}${more}`, {
      hint,
      details: { tensors: tensors.slice(0, 100), count: tensors.length },
    });
  }
}
