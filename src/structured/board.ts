// The memory that a matcher's two sides share: what it has answered, and the mask. The worker
// writes the mask and the state, then counts the answer; the engine reads them once the count
// is what it expects.

/** Fields, i32 each; the mask follows, `[ceil(tokens / 32)]` u32. */
const FIELD = {
  /** Commands answered so far. */
  answered: 0,
  state: 1,
  /** Not 0: the engine wants a message with the next answer. */
  wanted: 2,
} as const;
const HEADER = 4;

const STATES = ["open", "satisfied", "complete", "failed"] as const;
/** `open`: more must come; `satisfied`: it may end here; `complete`: nothing more can come. */
export type MatcherState = (typeof STATES)[number];

export class Board {
  readonly shared: SharedArrayBuffer;
  readonly #fields: Int32Array;
  /** Bit id % 32 of word id / 32: the token may come next. Valid while the matcher is not asked anything. */
  readonly mask: Uint32Array;

  constructor(shared: SharedArrayBuffer) {
    this.shared = shared;
    this.#fields = new Int32Array(shared, 0, HEADER);
    this.mask = new Uint32Array(shared, HEADER * 4);
  }

  static forTokens(tokens: number): Board {
    return new Board(new SharedArrayBuffer((HEADER + Math.ceil(tokens / 32)) * 4));
  }

  get state(): MatcherState {
    return STATES[Atomics.load(this.#fields, FIELD.state)]!;
  }

  /** Engine: whether so many commands are answered; waits for each up to so many milliseconds. */
  hasAnswered(commands: number, patience: number): boolean {
    for (;;) {
      const answered = Atomics.load(this.#fields, FIELD.answered);
      if (answered >= commands) return true;
      if (patience === 0 || Atomics.wait(this.#fields, FIELD.answered, answered, patience) === "timed-out") return false;
    }
  }

  /** Engine: asks for a message when the next command is answered. */
  wantMessage(): void {
    Atomics.store(this.#fields, FIELD.wanted, 1);
  }

  /**
   * Worker: writes what may come next.
   *
   * @param words of all tokens, and one more: whether the answer may end here
   * @param stopIds tokens that end it
   */
  write(words: Int32Array, tokens: number, stopIds: readonly number[]): void {
    const has = (id: number): boolean => ((words[id >>> 5]! >>> (id & 31)) & 1) === 1;
    const end = has(tokens);
    words[tokens >>> 5]! &= ~(1 << (tokens & 31));
    const more = words.some((word) => word !== 0);
    if (end) for (const id of stopIds) words[id >>> 5]! |= 1 << (id & 31);
    this.mask.set(words.subarray(0, this.mask.length));
    this.#setState(more ? (end ? "satisfied" : "open") : end ? "complete" : "failed");
  }

  fail(): void {
    this.#setState("failed");
  }

  /** Worker: counts a command as answered. @returns whether a message is wanted */
  answer(): boolean {
    Atomics.add(this.#fields, FIELD.answered, 1);
    Atomics.notify(this.#fields, FIELD.answered);
    return Atomics.exchange(this.#fields, FIELD.wanted, 0) !== 0;
  }

  #setState(state: MatcherState): void {
    Atomics.store(this.#fields, FIELD.state, STATES.indexOf(state));
  }
}
