// A good small checkpoint, and ways to spoil it: each test names one fault, and everything
// else in the folder is right.

import { mkdtempSync, readFileSync, rmSync, truncateSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type HeaderEntry, headerOf, safetensorsBytes, type WrittenTensor } from "../support/safetensors-writer.js";
import {
  buildSynthetic,
  gptqWeights,
  type SyntheticFiles,
  type SyntheticModel,
  smallLlama,
  writeSynthetic,
} from "../support/synthetic-checkpoint.js";

/** 4-bit, one layer, 60 KB. */
export const goodModel: SyntheticModel = {
  ...smallLlama,
  layers: 1,
  hidden: 64,
  heads: 2,
  kvHeads: 1,
  intermediate: 96,
  weights: { ...gptqWeights, order: "sequential" },
};

let built: SyntheticFiles | undefined;

function goodFiles(): SyntheticFiles {
  built ??= buildSynthetic(goodModel);
  return built;
}

/** A checkpoint's folder, open to every change. */
export class SpoiledCheckpoint implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), "exllama-bad-input-"));

  constructor() {
    writeSynthetic(this.folder, goodModel, goodFiles());
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  remove(name: string): void {
    unlinkSync(this.path(name));
  }

  write(name: string, contents: string | Uint8Array): void {
    writeFileSync(this.path(name), contents);
  }

  /** Keeps so many bytes of a file; below 0, so many less than it has. */
  cut(name: string, bytes: number): void {
    const size = readFileSync(this.path(name)).length;
    truncateSync(this.path(name), bytes < 0 ? size + bytes : bytes);
  }

  config(changes: Record<string, unknown>): void {
    this.write("config.json", JSON.stringify({ ...goodFiles().config, ...changes }));
  }

  quantization(changes: Record<string, unknown>): void {
    this.config({ quantization_config: { ...(goodFiles().config.quantization_config as object), ...changes } });
  }

  /** Rewrites the weights with a changed header over the same contents. */
  header(change: (header: Record<string, HeaderEntry>) => void): void {
    const header = headerOf(goodFiles().tensors);
    change(header);
    this.write("model.safetensors", safetensorsBytes(goodFiles().tensors, header));
  }

  /** Rewrites the weights with a changed list of tensors. */
  tensors(change: (tensors: readonly WrittenTensor[]) => readonly WrittenTensor[]): void {
    this.write("model.safetensors", safetensorsBytes(change(goodFiles().tensors)));
  }

  /** Rewrites the bytes of one tensor. */
  contents(name: string, change: (data: Uint8Array) => void): void {
    this.tensors((tensors) =>
      tensors.map((tensor) => {
        if (tensor.name !== name) return tensor;
        const data = tensor.data.slice();
        change(data);
        return { ...tensor, data };
      }),
    );
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
