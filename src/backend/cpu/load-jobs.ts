// One worker's share of a piece of loading. Shares are fixed by the worker's index: loading
// is bound by reading, and a late worker costs little.

import { dequantizeColumns } from "./dequantize.js";
import { ValueKind } from "./kernels.js";
import type { ArenaAccess } from "./layer-program.js";
import { runPack } from "./quantized-packer.js";
import type { LoadJob, WorkerStart } from "./worker-messages.js";

/** Runs this worker's share; the result is what the job's kind says, −1 where it says nothing. */
export function runLoadJob(job: LoadJob, worker: WorkerStart, arenas: readonly ArenaAccess[]): number {
  const { kernels, memory } = arenas[job.arena]!;
  switch (job.kind) {
    case "widen": {
      const [from, to] = share(job.count, worker);
      const bytes = job.value === ValueKind.f32 ? 4 : 2;
      kernels.widen_row(job.from + from * bytes, job.to + from * 4, to - from, job.value);
      return -1;
    }
    case "check": {
      const [from, to] = share(job.count, worker);
      const bytes = job.value === ValueKind.f32 ? 4 : 2;
      const index = kernels.first_non_finite(job.at + from * bytes, to - from, job.value);
      return index < 0 ? -1 : from + index;
    }
    case "pack": {
      const [from, to] = share(job.tileTo - job.tileFrom, worker);
      const status = runPack(kernels, job.command, job.tileFrom + from, job.tileFrom + to);
      return status === 0 ? -1 : status;
    }
    case "dequantize": {
      const { format, out, rows } = job;
      const groups = Math.ceil(job.in / format.groupSize);
      const i32 = (at: number, length: number) => new Int32Array(memory.buffer, at, length);
      const [from, to] = share(out, worker);
      dequantizeColumns(
        {
          format,
          out,
          in: job.in,
          firstRow: job.firstRow,
          rows,
          qweight: i32(job.slab, Math.ceil((rows * format.bits) / 32) * out),
          scaleAt: reader(memory.buffer as SharedArrayBuffer, job.scales, groups * out, format.scaleDtype),
          qzeros: i32(job.zeros, groups * Math.ceil((out * format.bits) / 32)),
          gIdx: job.gIdx < 0 ? null : i32(job.gIdx, job.in),
          to: new Float32Array(memory.buffer, job.to, job.in * out),
        },
        from,
        to,
      );
      return -1;
    }
  }
}

function share(count: number, { index, threads }: WorkerStart): [from: number, to: number] {
  return [Math.floor((count * index) / threads), Math.floor((count * (index + 1)) / threads)];
}

/** Reads scales in their stored dtype. */
function reader(buffer: SharedArrayBuffer, at: number, count: number, dtype: "f16" | "bf16" | "f32"): (i: number) => number {
  if (dtype === "f32") {
    const values = new Float32Array(buffer, at, count);
    return (i) => values[i]!;
  }
  const bits = new Uint16Array(buffer, at, count);
  const word = new Uint32Array(1);
  const float = new Float32Array(word.buffer);
  if (dtype === "bf16") {
    return (i) => {
      word[0] = bits[i]! << 16;
      return float[0]!;
    };
  }
  return (i) => halfValue(bits[i]!);
}

function halfValue(h: number): number {
  const exponent = (h >> 10) & 31;
  const fraction = h & 1023;
  const sign = h & 0x8000 ? -1 : 1;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
