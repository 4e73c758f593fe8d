// What a step is held against before it touches memory: kernels trust every number they get.

import { type CacheGroup, PAGE_TOKENS, type Plan } from "../memory/plan.js";
import type { ModelSpec } from "../model/spec.js";
import { adapterFault } from "./adapters.js";
import type { BatchEntry, OutputRequest } from "./backend.js";
import { InvalidBatchError } from "./errors.js";

/** @throws {InvalidBatchError} naming the entry and what is wrong with it */
export function checkBatch(batch: readonly BatchEntry[], plan: Plan, spec: ModelSpec): void {
  const { maxSequences, prefillChunk } = plan.run;
  if (batch.length === 0) throw new InvalidBatchError("the batch is empty");
  if (batch.length > maxSequences)
    throw new InvalidBatchError(`the batch has ${batch.length} entries, the plan allows ${maxSequences}`);
  const tokens = batch.reduce((sum, entry) => sum + entry.tokens.length, 0);
  const most = Math.max(prefillChunk, batch.length);
  if (tokens > most) throw new InvalidBatchError(`the batch has ${tokens} tokens, the plan allows ${most}`);
  const written = plan.cacheGroups.map(() => new Set<number>());
  batch.forEach((entry, index) => {
    const refuse = (message: string): never => {
      throw new InvalidBatchError(`entry ${index}: ${message}`, { entry: index });
    };
    checkEntry(entry, plan, spec, refuse);
    for (const [g, group] of plan.cacheGroups.entries()) checkPages(entry, g, group, written[g]!, refuse);
  });
}

type Refuse = (message: string) => never;

function checkEntry(entry: BatchEntry, plan: Plan, spec: ModelSpec, refuse: Refuse): void {
  const { tokens, start, ropeLength, outputs } = entry;
  if (tokens.length === 0) refuse("it feeds no token");
  if (!Number.isInteger(start) || start < 0) refuse(`position ${start} is no position`);
  if (start + tokens.length > plan.run.context)
    refuse(`it ends at position ${start + tokens.length}, beyond the context of ${plan.run.context}`);
  if (!(ropeLength > 0)) refuse(`ropeLength is ${ropeLength}`);
  for (const id of tokens) if (id < 0 || id >= spec.vocabSize) refuse(`id ${id} is not in the vocabulary of ${spec.vocabSize}`);
  const fault = adapterFault(entry.adapters ?? [], spec.adapters?.length ?? 0);
  if (fault !== null) refuse(fault);
  for (const output of outputs) checkOutput(output, tokens.length, spec.vocabSize, refuse);
}

function checkOutput({ index, target, topLogprobs }: OutputRequest, tokens: number, vocabSize: number, refuse: Refuse): void {
  if (!Number.isInteger(index) || index < 0 || index >= tokens) refuse(`output ${index} is none of its ${tokens} tokens`);
  if (target !== null && !(Number.isInteger(target) && target >= 0 && target < vocabSize))
    refuse(`target ${target} is not in the vocabulary of ${vocabSize}`);
  if (!Number.isInteger(topLogprobs) || topLogprobs < 0) refuse(`topLogprobs is ${topLogprobs}`);
}

/** Every page that is read or written must exist, and no page may be written for two entries. */
function checkPages(entry: BatchEntry, g: number, group: CacheGroup, written: Set<number>, refuse: Refuse): void {
  const table = entry.pages[g] ?? new Int32Array();
  const { start, tokens } = entry;
  const last = Math.floor((start + tokens.length - 1) / PAGE_TOKENS);
  if (table.length <= last) refuse(`its page table ${g} has ${table.length} pages, ${last + 1} are needed`);
  const seen = group.window === null ? 0 : Math.floor(Math.max(0, start - group.window + 1) / PAGE_TOKENS);
  for (let page = seen; page <= last; page++) {
    const physical = table[page]!;
    if (physical < 0 || physical >= group.pages)
      refuse(`page ${page} of table ${g} is ${physical}, but there are ${group.pages} pages`);
    if (page < Math.floor(start / PAGE_TOKENS)) continue;
    if (written.has(physical)) refuse(`page ${physical} of table ${g} would be written twice`);
    written.add(physical);
  }
}
