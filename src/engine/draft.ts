// The draft model of a loaded model: a smaller one that guesses ahead. It must speak of the same
// tokens; what else it is made of does not matter, as the model itself judges every guess.

import type { Checkpoint } from "../checkpoint/checkpoint.js";
import { openCheckpoint } from "../checkpoint/local.js";
import { isSyntheticAddress, openSynthetic } from "../checkpoint/synthetic.js";
import { UnsupportedModelError } from "../model/errors.js";
import { readModel } from "../model/read.js";
import type { ModelSpec } from "../model/spec.js";
import type { Tokenizer } from "../text/tokenizer.js";
import { DraftMismatchError } from "./errors.js";
import { refuseRemote } from "./headers.js";
import { loadModelText, ModelText } from "./model-text.js";

export interface DraftModel {
  readonly path: string;
  readonly spec: ModelSpec;
  readonly checkpoint: Checkpoint;
}

/**
 * Opens a draft model; the caller closes its checkpoint.
 *
 * @throws {UnsupportedModelError} and what checkpoints and configs refuse
 */
export async function openDraft(path: string): Promise<DraftModel> {
  refuseRemote(path);
  const checkpoint = isSyntheticAddress(path) ? openSynthetic(path) : await openCheckpoint(path);
  try {
    const spec = readModel(checkpoint);
    if (spec.planOnly === null) return { path, spec, checkpoint };
    throw new UnsupportedModelError(`this draft model can be planned, but not run: ${spec.planOnly}`, {
      details: { architecture: spec.architecture },
    });
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
}

/**
 * Compares the vocabularies, token by token. Rows beyond the tokenizer's ids, with which models
 * fill their tables up, may differ in number; without tokenizers all rows count.
 *
 * @throws {DraftMismatchError} naming the first difference
 */
export async function checkVocabularies(model: { spec: ModelSpec; text: ModelText }, draft: DraftModel): Promise<void> {
  const { path } = draft;
  const text = isSyntheticAddress(path) ? new ModelText(path, null, null) : await loadModelText(path);
  if (!text.hasTokenizer || !model.text.hasTokenizer) {
    if (draft.spec.vocabSize === model.spec.vocabSize) return;
    throw new DraftMismatchError(path, `${draft.spec.vocabSize} tokens, not ${model.spec.vocabSize}`);
  }
  const difference = firstDifference(model.text.tokenizer, text.tokenizer);
  if (difference !== null) throw new DraftMismatchError(path, difference);
}

function firstDifference(model: Tokenizer, draft: Tokenizer): string | null {
  if (draft.vocabSize !== model.vocabSize) return `${draft.vocabSize} tokens, not ${model.vocabSize}`;
  for (let id = 0; id < model.vocabSize; id++) {
    const [ours, theirs] = [model.spelling(id), draft.spelling(id)];
    if (ours !== theirs) return `${JSON.stringify(theirs ?? null)} as token ${id}, not ${JSON.stringify(ours ?? null)}`;
  }
  return null;
}
