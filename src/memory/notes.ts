// Remarks beside the figures: what a person should know before relying on them.

import type { ModelSpec } from "../model/spec.js";
import type { RunShape } from "./packing.js";
import type { Placement } from "./placement.js";
import type { Plan } from "./plan.js";
import { MOST_CONTEXT, type PlanRequest, settingsOf } from "./plan-request.js";
import { formatBytes } from "./size.js";

export function notesFor(request: PlanRequest, run: RunShape, placement: Placement, largest: Plan["largestContext"]): string[] {
  const { spec, packing, devices, draft } = request;
  const notes: string[] = [];
  const [fastest] = settingsOf(request).prefillChunks;
  if (run.prefillChunk < fastest)
    notes.push(`prompts go in chunks of ${run.prefillChunk} tokens instead of ${fastest}: only so does this context fit`);
  const used = devices.filter((_, index) => (placement.use[index] ?? 0) > 0);
  const table = used.filter(({ baselineSource }) => baselineSource === "table");
  if (table.length > 0)
    notes.push(
      `the baseline (driver context and modules) of ${table.map(({ id }) => id).join(", ")} is a table's ` +
        `${formatBytes(table[0]!.baseline)}, not a measurement of that card`,
    );
  if (packing.embeddings === "host")
    notes.push(`the embeddings (${formatBytes(embeddingBytes(request))}) stay in host memory, outside every cap`);
  const holders = placement.counts.filter((count) => count > 0).length;
  if (spec.tiedEmbeddings && packing.embeddings === "device" && holders > 1)
    notes.push("the embeddings serve as the head too and lie on two devices, the first and the last: they are counted twice");
  if (spec.planOnly) notes.push(`this model can be planned but not run: ${spec.planOnly}`);
  if (draft?.contextLimit != null && draft.contextLimit < run.context)
    notes.push(`the draft model is made for ${draft.contextLimit} tokens: beyond them its guesses get worse, never the answers`);
  const shown = (["f16", "q8", "q4"] as const).filter((type) => !packing.cacheTypes.includes(type));
  if (shown.length > 0)
    notes.push(
      `the ${packing.name} backend runs ${packing.cacheTypes.join(", ")} caches; the largest contexts of ${shown.join(", ")} are for comparison`,
    );
  if (Object.values(largest).includes(MOST_CONTEXT)) notes.push(`contexts are searched up to ${MOST_CONTEXT} tokens`);
  return notes;
}

/** The draft model's too. */
function embeddingBytes({ spec, draft }: PlanRequest): number {
  const bytes = ({ vocabSize, hiddenSize, embedding }: ModelSpec) => vocabSize * hiddenSize * (embedding.dtype === "f32" ? 4 : 2);
  return bytes(spec) + (draft ? bytes(draft) : 0);
}
