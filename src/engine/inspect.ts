// What a checkpoint is, in one plain value: its headers, its spec and its text files. No
// weights are read and no engine is started.

import { stat } from "node:fs/promises";
import { isRemoteAddress } from "../checkpoint/address.js";
import type { TensorInfo } from "../checkpoint/checkpoint.js";
import { describeModel, type ModelDescription } from "../model/describe.js";
import { readModel } from "../model/read.js";
import type { RopeSpec } from "../model/spec.js";
import { createChatTemplate, createTokenizer, readTextFiles } from "../text/load.js";
import { readHeaders } from "./headers.js";

export interface ModelInspection extends ModelDescription {
  readonly source: string;
  readonly layers: number;
  readonly hiddenSize: number;
  readonly vocabSize: number;
  /** The first layer's; `window` is the smallest of any layer. */
  readonly attention: {
    readonly heads: number;
    readonly kvHeads: number;
    readonly headDim: number;
    readonly window: number | null;
  };
  readonly rope: RopeSpec;
  readonly contextLimit: number | null;
  readonly tiedEmbeddings: boolean;
  readonly bosId: number | null;
  readonly eosIds: readonly number[];
  /** `tokenizer.json` or `tokenizer.model`; `null` where there is none, or the checkpoint is remote. */
  readonly tokenizer: string | null;
  /** `null` for a remote checkpoint, whose text files are not fetched. */
  readonly hasChatTemplate: boolean | null;
  readonly planOnly: string | null;
  readonly tensors: readonly TensorInfo[];
}

/**
 * @param path a folder, `hf:owner/name`, or an http(s) address
 * @throws {ExllamaError} as loading does, for what headers and small files show
 */
export async function inspectModel(path: string, options: { signal?: AbortSignal } = {}): Promise<ModelInspection> {
  const headers = await readHeaders(path, options);
  const spec = readModel(headers);
  const { heads, kvHeads, headDim } = spec.layers[0]!.attention;
  const windows = spec.layers.flatMap(({ attention: { window } }) => (window === null ? [] : [window]));
  return {
    source: headers.source,
    ...describeModel(headers, spec),
    layers: spec.layers.length,
    hiddenSize: spec.hiddenSize,
    vocabSize: spec.vocabSize,
    attention: { heads, kvHeads, headDim, window: windows.length === 0 ? null : Math.min(...windows) },
    rope: spec.rope,
    contextLimit: spec.contextLimit,
    tiedEmbeddings: spec.tiedEmbeddings,
    bosId: spec.bosId,
    eosIds: spec.eosIds,
    ...(isRemoteAddress(path) ? { tokenizer: null, hasChatTemplate: null } : await inspectText(path)),
    planOnly: spec.planOnly,
    tensors: [...headers.tensors.values()],
  };
}

async function inspectText(path: string): Promise<Pick<ModelInspection, "tokenizer" | "hasChatTemplate">> {
  if (!(await stat(path)).isDirectory()) return { tokenizer: null, hasChatTemplate: false };
  const files = await readTextFiles(path);
  const tokenizer = files.tokenizerJson ? "tokenizer.json" : files.tokenizerModel ? "tokenizer.model" : null;
  if (tokenizer) createTokenizer(files);
  return { tokenizer, hasChatTemplate: createChatTemplate(files) !== null };
}
