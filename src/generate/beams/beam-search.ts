// Beam search as ExLlama does it: several beams grow side by side until they are `length` ids
// long; then the first id of the best one is said, beams that begin otherwise are dropped, and
// the rest go on growing. So the answer streams, and each of its ids has been chosen with an eye
// on what can follow. Nothing is drawn: the same logits give the same answer.
//
// Scores are sums of log-probabilities. Among equals the beam whose parent stood higher is
// better, then the id that `likeliest` names first.

import type { TokenLogprob } from "../../backend/backend.js";

export interface BeamShape {
  /** Beams kept. */
  readonly count: number;
  /** Ids that a beam grows ahead of what has been said. */
  readonly length: number;
}

/** @typeParam B what is known of an id beside its log-probability, handed back when it is said */
export interface Beam<B extends TokenLogprob> {
  /** What has not been said yet. */
  readonly tail: readonly B[];
  /** The id that it grew by last, said or not; `null` in the beginning. */
  readonly newest: B | null;
  /** Σ log p from the beginning of the answer. */
  readonly score: number;
  /** Its last id ends the answer: it does not grow any more. */
  readonly ended: boolean;
  /** Index, among the beams before this step, of the one that it continues. */
  readonly parent: number;
}

export class BeamSearch<B extends TokenLogprob = TokenLogprob> {
  readonly #shape: BeamShape;
  readonly #limit: number;
  readonly #endIds: ReadonlySet<number>;
  #beams: readonly Beam<B>[] = [{ tail: [], newest: null, score: 0, ended: false, parent: 0 }];
  #said = 0;

  /**
   * @param limit most ids of the answer
   * @param endIds ids after which an answer is over
   */
  constructor(shape: BeamShape, limit: number, endIds: ReadonlySet<number>) {
    this.#shape = shape;
    this.#limit = limit;
    this.#endIds = endIds;
  }

  /** Best first; in the beginning a single empty one. None are left when the answer is over. */
  get beams(): readonly Beam<B>[] {
    return this.#beams;
  }

  /**
   * Grows every beam by one id.
   *
   * @param branches per beam, in order, the likeliest ids that follow it; not looked at where a beam has ended
   * @returns what is certain now, an end id included
   */
  grow(branches: readonly (readonly B[])[]): B[] {
    const grown = this.#beams.flatMap((beam, parent): Beam<B>[] =>
      beam.ended ? [{ ...beam, parent }] : branches[parent]!.map((branch) => this.#extend(beam, parent, branch)),
    );
    // Array.prototype.sort is stable: equals keep the order of their parents and branches.
    this.#beams = grown.sort((a, b) => b.score - a.score).slice(0, this.#shape.count);
    return this.#say();
  }

  #extend({ tail, score }: Beam<B>, parent: number, branch: B): Beam<B> {
    return { tail: [...tail, branch], newest: branch, score: score + branch.logprob, ended: this.#endIds.has(branch.id), parent };
  }

  /** Says what is certain: first ids of the best beam, while the beams are as long as they may become. */
  #say(): B[] {
    const said: B[] = [];
    while (this.#beams.length > 0 && this.#fullyGrown()) {
      const first = this.#beams[0]!.tail[0]!;
      said.push(first);
      this.#said++;
      const over = this.#endIds.has(first.id) || this.#said === this.#limit;
      this.#beams = over
        ? []
        : this.#beams.filter(({ tail }) => tail[0]!.id === first.id).map((beam) => ({ ...beam, tail: beam.tail.slice(1) }));
    }
    return said;
  }

  /** All that still grow have the same length. */
  #fullyGrown(): boolean {
    const growing = this.#beams.find(({ ended }) => !ended);
    return !growing || growing.tail.length >= Math.min(this.#shape.length, this.#limit - this.#said);
  }
}
