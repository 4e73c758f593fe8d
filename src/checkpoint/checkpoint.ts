// What the rest of the program knows of a checkpoint: the headers of its tensors, and a way
// to read byte ranges of them. Headers are plain data (they may come from a remote address,
// and run in a browser); contents are only ever read in ranges into memory the caller owns.

/** Element types of the safetensors format that this program can meet. */
export type Dtype =
  | "F64"
  | "F32"
  | "F16"
  | "BF16"
  | "I64"
  | "I32"
  | "I16"
  | "I8"
  | "U64"
  | "U32"
  | "U16"
  | "U8"
  | "BOOL"
  | "F8_E4M3"
  | "F8_E5M2";

/** One tensor as its file's header describes it. */
export interface TensorInfo {
  readonly name: string;
  readonly dtype: Dtype;
  /** Outermost dimension first; `[]` is a scalar. */
  readonly shape: readonly number[];
  /** File name inside the checkpoint's folder or repository. */
  readonly file: string;
  /** First byte of the contents, counted from the beginning of the file. */
  readonly start: number;
  /** Length of the contents in bytes: always product(shape) · size(dtype). */
  readonly bytes: number;
}

/** A checkpoint's small JSON files, parsed but not yet believed; absent ones are `null`. */
export interface CheckpointConfigs {
  /** config.json */
  readonly config: unknown;
  /** generation_config.json */
  readonly generation: unknown;
  /** quantize_config.json: where older GPTQ checkpoints keep what newer ones put into config.json */
  readonly quantize: unknown;
}

/** What planning needs of a checkpoint: no weight byte is read to make one. */
export interface CheckpointHeaders {
  /** Folder or address, for messages. */
  readonly source: string;
  readonly configs: CheckpointConfigs;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
}

/** A local checkpoint whose contents can be read. */
export interface Checkpoint extends CheckpointHeaders {
  /**
   * Reads `into.byteLength` bytes of a tensor, beginning `offset` bytes into its contents.
   *
   * @param into may lie in a SharedArrayBuffer
   * @throws {CheckpointReadError} when the file has become shorter, or the disk fails
   */
  read(tensor: TensorInfo, offset: number, into: Uint8Array): Promise<void>;
  /** Closes the files. Idempotent. */
  close(): Promise<void>;
}
