// What can go wrong in any backend, whatever it computes on.

import { ExllamaError } from "../errors.js";

/** A tensor's contents contradict the model: a g_idx that names no group, for example. */
export class TensorContentsError extends ExllamaError {
  constructor(tensor: string, message: string) {
    super("TENSOR_CONTENTS", `${tensor} ${message}`, {
      hint: "The checkpoint is damaged: download or quantise it again.",
      details: { tensor },
    });
  }
}

/** A batch that does not go with the plan: an id beyond the vocabulary, a page that does not exist, … */
export class InvalidBatchError extends ExllamaError {
  constructor(message: string, details: Record<string, unknown> = {}) {
    super("INVALID_BATCH", message, { details });
  }
}
