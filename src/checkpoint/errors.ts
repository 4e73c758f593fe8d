// What can be wrong with a checkpoint's files: their place, their format, their contents'
// reach. What their tensors mean, and whether they fit the config, is judged in `model/`.

import { ExllamaError } from "../errors.js";

/** Faults of a safetensors file; each is an error code of its own. */
export type SafetensorsFault =
  /** Shorter than the header length, or than the header it announces, or than its tensors. */
  | "SAFETENSORS_TRUNCATED"
  /** The header is longer than 100 MB, the limit of the format's reference implementation. */
  | "SAFETENSORS_HEADER_TOO_LARGE"
  /** The header is not a JSON object in UTF-8, or nested deeper than the format can be. */
  | "SAFETENSORS_HEADER_SYNTAX"
  /** A key stands twice in one object of the header. */
  | "SAFETENSORS_DUPLICATE_KEY"
  /** A header entry that is not a tensor description, or metadata that is not text to text. */
  | "SAFETENSORS_ENTRY"
  | "SAFETENSORS_UNKNOWN_DTYPE"
  /** A shape that is not a list of sizes, or whose product no file can hold. */
  | "SAFETENSORS_SHAPE"
  /** data_offsets that are not two ordered positions, or that disagree with shape and dtype. */
  | "SAFETENSORS_OFFSETS"
  /** Two tensors share bytes. */
  | "SAFETENSORS_OVERLAP"
  /** Bytes that belong to no tensor, between tensors or after the last. */
  | "SAFETENSORS_GAP";

/** A safetensors file that breaks its format. */
export class SafetensorsError extends ExllamaError {
  constructor(fault: SafetensorsFault, file: string, message: string, details: Record<string, unknown> = {}) {
    super(fault, `${file}: ${message}`, { hint: HINTS[fault] ?? HINT, details: { file, ...details } });
  }
}

const HINT = "The file is damaged or was written by a faulty program; get it again from where it came.";
const HINTS: Partial<Record<SafetensorsFault, string>> = {
  SAFETENSORS_TRUNCATED: "The download is probably not complete; get the file again.",
  SAFETENSORS_UNKNOWN_DTYPE: "This program reads floating-point and GPTQ checkpoints; look for one of those.",
};

/** The folder or address itself: missing, unreadable, not a folder, without safetensors files. */
export class CheckpointNotFoundError extends ExllamaError {
  constructor(message: string, options: { hint?: string; details?: Record<string, unknown>; cause?: unknown } = {}) {
    super("CHECKPOINT_NOT_FOUND", message, options);
  }
}

/** A JSON file of the checkpoint that is missing, too large or cannot be parsed. */
export class CheckpointConfigError extends ExllamaError {
  constructor(message: string, options: { hint?: string; details?: Record<string, unknown>; cause?: unknown } = {}) {
    super("CHECKPOINT_CONFIG", message, options);
  }
}

/** A shard index that is malformed, or that its shards contradict. */
export class CheckpointIndexError extends ExllamaError {
  constructor(message: string, options: { hint?: string; details?: Record<string, unknown>; cause?: unknown } = {}) {
    super("CHECKPOINT_INDEX", message, options);
  }
}

/** Bytes that the header promised could not be read. */
export class CheckpointReadError extends ExllamaError {
  constructor(message: string, options: { hint?: string; details?: Record<string, unknown>; cause?: unknown } = {}) {
    super("CHECKPOINT_READ", message, options);
  }
}

/** A checkpoint that cannot be split: the output is there already, or cannot be written. */
export class ShardError extends ExllamaError {
  constructor(message: string, options: { hint?: string; details?: Record<string, unknown>; cause?: unknown } = {}) {
    super("SHARD", message, options);
  }
}

/** A server that cannot be reached, refuses, answers wrongly or too slowly. */
export class RemoteCheckpointError extends ExllamaError {
  constructor(message: string, options: { hint?: string; details?: Record<string, unknown>; cause?: unknown } = {}) {
    super("CHECKPOINT_REMOTE", message, options);
  }
}
