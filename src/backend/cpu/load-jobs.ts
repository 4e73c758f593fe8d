// One worker's share of a piece of loading. Shares are fixed by the worker's index: loading
// is bound by reading, and a late worker costs little.

import { ValueKind } from "./kernels.js";
import type { ArenaAccess } from "./layer-program.js";
import { PACK_DTYPE } from "./quantized-kernels.js";
import { runPack } from "./quantized-packer.js";
import type { LoadJob, WorkerStart } from "./worker-messages.js";

const SCALE_DTYPE = { f16: "F16", bf16: "BF16", f32: "F32" } as const;

/** Runs this worker's share; the result is what the job's kind says, −1 where it says nothing. */
export function runLoadJob(job: LoadJob, worker: WorkerStart, arenas: readonly ArenaAccess[]): number {
  const { kernels } = arenas[job.arena]!;
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
      const { format, out } = job;
      const [from, to] = share(out, worker);
      kernels.dequantize_columns(
        job.slab,
        format.bits,
        format.zeros === "v1" ? 1 : 0,
        out,
        job.in,
        job.firstRow,
        job.rows,
        job.scales,
        PACK_DTYPE[SCALE_DTYPE[format.scaleDtype]],
        job.zeros,
        Math.max(job.gIdx, 0),
        Math.min(format.groupSize, job.in),
        job.to,
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
