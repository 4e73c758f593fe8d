// Where the time of a step goes: every kernel of the step replayed alone, many times, beside
// the bytes that it has to move and what a kernel that only reads reaches on the same card in the
// same run. Events between the kernels of a step would keep them from overlapping and measure
// themselves; so the whole step is timed as one graph, and what its kernels take alone is compared
// with that. A kernel alone finds nothing in L2 that the kernel before it brought there, and
// asks for the next one's weights all the same: the sum may be more than the step.

import type { DeviceContext } from "../cards/device-context.js";
import { type KernelCall, KernelQueue } from "../launch/kernel-queue.js";
import { writeParameters } from "../launch/parameter-layout.js";
import { READ_MEMORY } from "../steps/pointwise-layouts.js";

/** Launches of a step that do the same to different layers. */
export interface KernelTime {
  /** What they do in the step. */
  readonly role: string;
  readonly kernel: string;
  /** Of a step. */
  readonly launches: number;
  /** Of one launch, replayed alone. */
  readonly microseconds: number;
  /** That one launch must move; 0: too few to matter. */
  readonly bytes: number;
}

export interface StepProfile {
  /** Sequences, one token each; tokens of a prompt. */
  readonly rows: number;
  /** The step takes a prompt, instead of one token of each sequence. */
  readonly prompt?: boolean;
  /** Tokens in the cache of each before the step. */
  readonly depth: number;
  /** What read_memory reaches, bytes per second. */
  readonly readRate: number;
  /** The step as a captured graph, microseconds. */
  readonly stepMicroseconds: number;
  /** The same through `step()`: with its copies, the host's work and its waiting. */
  readonly throughHostMicroseconds: number;
  readonly kernels: readonly KernelTime[];
}

const ROUNDS = 5;
/** Launches of one measurement at least, so that its ends do not matter. */
const LEAST_LAUNCHES = 256;
const READ_BLOCKS = 8;

/** The launches that `run` makes. */
export function recordCalls(context: DeviceContext, run: (queue: KernelQueue) => void): KernelCall[] {
  const calls: KernelCall[] = [];
  run(new KernelQueue(context, true, (call) => calls.push(call)));
  return calls;
}

/** @param cacheBytes that the attention of one layer reads */
export function timeKernels(
  context: DeviceContext,
  overlap: boolean,
  calls: readonly KernelCall[],
  cacheBytes: number,
): KernelTime[] {
  const groups = new Map<string, KernelCall[]>();
  for (const call of calls) {
    const key = `${call.role ?? call.name}\n${call.name}`;
    groups.set(key, [...(groups.get(key) ?? []), call]);
  }
  const queue = new KernelQueue(context, overlap);
  return [...groups.values()].map((group) => {
    const first = group[0]!;
    const graph = context.capture(() => {
      for (const call of group) queue.run(call);
    });
    const repeats = Math.ceil(LEAST_LAUNCHES / group.length);
    const microseconds = replayTime(context, graph, repeats) / group.length;
    context.destroyGraph(graph);
    const bytes = group.reduce((sum, call) => sum + (call.bytes ?? 0) + (call.attentions ?? 0) * cacheBytes, 0) / group.length;
    return { role: first.role ?? first.name, kernel: first.name, launches: group.length, microseconds, bytes };
  });
}

/** Microseconds of one replay, the median of some rounds. */
export function replayTime(context: DeviceContext, graph: bigint, repeats: number): number {
  const { driver } = context;
  const events: bigint[] = [];
  const stream = context.use().stream;
  const elapsed = new Float32Array(1);
  const rounds: number[] = [];
  try {
    for (const _ of ["begin", "end"]) events.push(driver.u64("cuEventCreate", [0]));
    const [begin, end] = events as [bigint, bigint];
    for (let round = 0; round <= ROUNDS; round++) {
      driver.call("cuEventRecord", [begin, stream]);
      for (let i = 0; i < repeats; i++) context.launchGraph(graph);
      driver.call("cuEventRecord", [end, stream]);
      context.synchronize();
      driver.call("cuEventElapsedTime_v2", [elapsed, begin, end]);
      if (round > 0) rounds.push((elapsed[0]! * 1e3) / repeats); // the first one warms up
    }
  } finally {
    for (const event of events) driver.invoke("cuEventDestroy_v2", [event]);
  }
  return rounds.sort((a, b) => a - b)[ROUNDS >> 1]!;
}

/** Bytes per second of a kernel that reads `bytes` at `from` and does nothing else. */
export function readRate(context: DeviceContext, from: bigint, bytes: number): number {
  const cells = Math.floor(bytes / 16);
  const queue = new KernelQueue(context, false);
  const graph = context.capture(() => {
    queue.run({
      family: "pointwise",
      name: "read_memory",
      grid: [context.card.multiprocessors * READ_BLOCKS],
      block: 512,
      parameters: writeParameters(READ_MEMORY, { from, sink: from, cells: BigInt(cells) }),
    });
  });
  const microseconds = replayTime(context, graph, 4);
  context.destroyGraph(graph);
  return (cells * 16) / (microseconds * 1e-6);
}
