// What an answer must look like, as a sequence sees it: which tokens may come next. The
// engine makes one for each answer and closes it when the answer is over.

export interface TokenConstraint {
  /** Whether what may come next is known; where it is not, the sequence waits and `onReady` is called later. */
  readonly ready: boolean;
  onReady: () => void;
  /** Whether nothing more can come; `false` where that is not known yet. */
  readonly complete: boolean;
  /**
   * Which ids may come next, once `ready`: bit id % 32 of word id / 32; `null`: any.
   *
   * @throws when the constraint cannot be kept any longer
   */
  mask(): Uint32Array | null;
  /** This id comes next. */
  accept(id: number): void;
}
