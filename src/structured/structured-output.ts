// Constraints on the answers of one loaded model. Its workers start with the first constraint;
// grammars that users write themselves have a worker of their own, so that one that is slow or
// makes the library abort disturbs no schema.

import { type Constraint, checkConstraint } from "./constraint.js";
import { GrammarWorker } from "./grammar-worker.js";
import type { ConstraintSource } from "./messages.js";
import { type ConstrainedVocabulary, type Markers, specialMarkers, tokenBytes } from "./token-bytes.js";
import type { WorkerMatcher } from "./worker-matcher.js";

export class StructuredOutput {
  /** What stands for special tokens in sources made by this program. */
  readonly markers: Markers;
  readonly #vocabulary: ConstrainedVocabulary;
  readonly #stopIds: readonly number[];
  #own: GrammarWorker | null = null;
  #foreign: GrammarWorker | null = null;

  /** @param stopIds tokens that end an answer; allowed exactly where the constraint is satisfied */
  constructor(vocabulary: ConstrainedVocabulary, stopIds: readonly number[]) {
    this.#vocabulary = vocabulary;
    this.#stopIds = stopIds;
    this.markers = specialMarkers(vocabulary, stopIds);
  }

  /** A matcher for one answer; close it when the answer is over. @throws {ConstraintError} */
  async open(constraint: Constraint): Promise<WorkerMatcher> {
    return this.openSource(checkConstraint(constraint));
  }

  /** As {@link open}, of a source that this program made. @throws {ConstraintError} */
  async openSource(source: ConstraintSource): Promise<WorkerMatcher> {
    if (source.kind === "grammar") {
      this.#foreign ??= this.#worker(new Map());
      return this.#foreign.open(source);
    }
    this.#own ??= this.#worker(this.markers);
    return this.#own.open(source);
  }

  async close(): Promise<void> {
    await Promise.all([this.#own?.close(), this.#foreign?.close()]);
  }

  #worker(markers: Markers): GrammarWorker {
    return new GrammarWorker(tokenBytes(this.#vocabulary, this.#stopIds, markers));
  }
}
