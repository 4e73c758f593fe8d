// What loading one stage works with, and the two things every tensor needs: values of any dtype
// to fp16, and rows of a table in pieces.

import type { Dtype, TensorInfo } from "../../../checkpoint/checkpoint.js";
import type { DeviceContext } from "../cards/device-context.js";
import { CudaLoadError } from "../errors.js";
import { KernelQueue } from "../launch/kernel-queue.js";
import { writeParameters } from "../launch/parameter-layout.js";
import type { Stage } from "../steps/stage.js";
import { ContentFlags } from "./content-flags.js";
import { StagingArea } from "./staging-area.js";
import { WIDEN } from "./weight-layouts.js";
import { type TensorSource, Uploader } from "./weight-source.js";

/** The kernels' number for a dtype, and its bytes. */
const VALUE_KIND: Partial<Record<Dtype, { kind: 0 | 1 | 2; bytes: 2 | 4 }>> = {
  F16: { kind: 0, bytes: 2 },
  BF16: { kind: 1, bytes: 2 },
  F32: { kind: 2, bytes: 4 },
};

/** @throws {CudaLoadError} for dtypes that are no plain numbers */
export function valueKind({ name, dtype }: TensorInfo): { kind: 0 | 1 | 2; bytes: 2 | 4 } {
  const known = VALUE_KIND[dtype];
  if (!known) throw new CudaLoadError(`${name} is ${dtype}, which the CUDA backend cannot read as numbers`);
  return known;
}

export class LoadSite {
  readonly stage: Stage;
  readonly context: DeviceContext;
  readonly queue: KernelQueue;
  readonly source: TensorSource;
  readonly uploader: Uploader;
  readonly flags: ContentFlags;

  constructor(stage: Stage, source: TensorSource) {
    this.stage = stage;
    this.context = stage.context;
    this.source = source;
    this.queue = new KernelQueue(stage.context, false);
    this.flags = new ContentFlags(stage.context, stage.at("scratch.flags"), stage.size("scratch.flags"));
    this.uploader = new Uploader(stage.context, source);
  }

  /** All of the stage's idle memory, for one tensor. */
  staging(): StagingArea {
    return StagingArea.of(this.stage);
  }

  /** A tensor of plain numbers → fp16 at `to`. */
  async loadValues(name: string, count: number, to: bigint): Promise<void> {
    const tensor = this.source.find(name);
    const { kind, bytes } = valueKind(tensor);
    if (tensor.bytes !== count * bytes) this.source.find(name, count * bytes);
    const flag = this.flags.take(name, false);
    if (kind === 0) {
      await this.uploader.upload(tensor, 0, tensor.bytes, to);
      this.#toHalf(to, to, count, kind, flag); // in place: only its check matters
      return;
    }
    const staging = this.staging();
    const most = Math.floor(staging.room / bytes);
    const at = staging.take(Math.min(most, count) * bytes);
    for (let done = 0; done < count; done += most) {
      const some = Math.min(most, count - done);
      await this.uploader.upload(tensor, done * bytes, some * bytes, at);
      this.#toHalf(at, to + BigInt(done * 2), some, kind, flag);
    }
  }

  /**
   * Scales that have just been staged, as the repacking kernels take them: f16 and f32 as they
   * are, bf16 rounded to f16 in place, which is what they are stored as anyway.
   *
   * @returns 1 for f32
   */
  narrowScales(tensor: TensorInfo, at: bigint, count: number): 0 | 1 {
    const { kind } = valueKind(tensor);
    if (kind === 1) this.#toHalf(at, at, count, kind, this.flags.take(tensor.name, false));
    return kind === 2 ? 1 : 0;
  }

  /** Waits for the card, judges the contents, gives the host's buffers back. */
  finish(): void {
    this.context.use();
    this.flags.verify();
  }

  /** Gives the host's buffers back; the card must not be copying any more. */
  close(): void {
    this.uploader.close();
  }

  #toHalf(source: bigint, destination: bigint, count: number, kind: number, bad: bigint): void {
    this.queue.run({
      family: "repack",
      name: "to_half",
      grid: [Math.min(4096, Math.ceil(count / 256))],
      block: 256,
      parameters: writeParameters(WIDEN, { source, destination, bad, count: BigInt(count), kind, unused: 0 }),
    });
  }
}

/** A tensor of `rows` equally long rows, uploaded some at a time. */
export class RowTensor {
  readonly info: TensorInfo;
  readonly rowBytes: number;
  readonly #site: LoadSite;

  constructor(site: LoadSite, name: string, rows: number, rowBytes: number) {
    this.#site = site;
    this.rowBytes = rowBytes;
    this.info = site.source.find(name, rows * rowBytes);
  }

  async upload(first: number, count: number, to: bigint): Promise<void> {
    await this.#site.uploader.upload(this.info, first * this.rowBytes, count * this.rowBytes, to);
  }
}
