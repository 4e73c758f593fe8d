// A step as the workers read it: a few words of shared memory behind the team's control words.
// The host writes them, raises the command word, and every worker runs the same program over
// the same words; so a step costs one wake-up and no message is built or parsed.

import type { RunShape } from "../../memory/packing.js";
import { PAGE_TOKENS } from "../../memory/plan.js";
import type { ModelSpec } from "../../model/spec.js";

/** Most compute threads; each has a piece of `scratch.threads`. */
export const MAX_THREADS = 64;

/** Byte offset of the command word; wasm/team.ts has the same number. */
export const COMMAND_BYTE = 256;
/** Byte offset of the step's words, behind the threads' shares (512 + 64 bytes for each; wasm/team.ts). */
const STEP_BYTE = 512 + 64 * MAX_THREADS;

/** What a command asks for. */
export const Task = { layers: 1, outputs: 2 } as const;

/** Offsets, in 32-bit words from the beginning of the control block. */
export interface StepWords {
  /** One of `Task`; `layers` goes on with the outputs. */
  readonly task: number;
  /** Rows (tokens) of the step. */
  readonly rows: number;
  readonly entries: number;
  /** Output rows of this command. */
  readonly outputs: number;
  /** [rows] token ids. */
  readonly ids: number;
  /** [entries] of {first row, rows, start position}. */
  readonly entryTable: number;
  /** [entries][groups][pages] physical pages. */
  readonly pageTable: number;
  /** [outputs] of {row, target id or −1, 1 where log-softmax sums are wanted}. */
  readonly outputTable: number;
  /** 1 where an entry uses an adapter. */
  readonly adapted: number;
  /** [entries][adapters] f32 weights; 0: the entry does not use that one. */
  readonly adapterTable: number;
  readonly groups: number;
  readonly pages: number;
  /** Loaded ones. */
  readonly adapters: number;
  /** Size of the whole control block. */
  readonly bytes: number;
}

export const ENTRY_WORDS = 3;
export const OUTPUT_WORDS = 3;

/** Layout of the control block: a pure function of the model and the run. */
export function stepWords(spec: ModelSpec, run: RunShape): StepWords {
  const tokens = Math.max(run.prefillChunk, run.maxSequences);
  const groups = new Set(spec.layers.map(({ attention }) => attention.window)).size;
  const pages = Math.ceil(run.context / PAGE_TOKENS);
  const task = STEP_BYTE / 4;
  const ids = task + 16;
  const entryTable = ids + tokens;
  const pageTable = entryTable + run.maxSequences * ENTRY_WORDS;
  const outputTable = pageTable + run.maxSequences * groups * pages;
  const adapterTable = outputTable + tokens * OUTPUT_WORDS;
  const adapters = spec.adapters?.length ?? 0;
  const end = adapterTable + run.maxSequences * adapters;
  return {
    task,
    rows: task + 1,
    entries: task + 2,
    outputs: task + 3,
    adapted: task + 4,
    ids,
    entryTable,
    pageTable,
    outputTable,
    adapterTable,
    groups,
    pages,
    adapters,
    bytes: end * 4,
  };
}
