// Stop strings in streamed text. Text that could still become a stop string is held back, so
// what has been handed out never has to be taken back. One automaton for all the strings (Aho
// and Corasick 1975) reads each code unit once: the time is linear, and where the answer ends
// does not depend on how the text was cut into pieces.

interface State {
  /** Code units of the longest beginning of a stop string that the text ends in. */
  readonly depth: number;
  readonly next: Map<number, State>;
  /** The state of the longest proper suffix; the root's is itself. */
  fallback: State;
  /** Length of the longest stop string that ends here, or 0. */
  match: number;
}

export class StopStrings {
  readonly #root: State;
  #state: State;
  /** Pieces of text not handed out yet begin at piece `#first`, code unit `#skip`. */
  #held: string[] = [];
  #first = 0;
  #skip = 0;
  #heldLength = 0;
  #stopped = false;

  /** @param strings none empty; without any, all text passes */
  constructor(strings: readonly string[]) {
    this.#root = buildAutomaton(strings);
    this.#state = this.#root;
  }

  /** A stop string has come: the answer is over. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /**
   * Takes text in and returns what can be handed out. At the first place where a stop string is
   * complete the answer ends before it, before the longest if several end there.
   */
  push(text: string): string {
    if (this.#stopped) return "";
    for (let i = 0; i < text.length; i++) {
      this.#state = step(this.#state, text.charCodeAt(i));
      if (this.#state.match === 0) continue;
      this.#stopped = true;
      this.#hold(text.slice(0, i + 1));
      return this.#handOut(this.#heldLength - this.#state.match);
    }
    this.#hold(text);
    return this.#handOut(this.#heldLength - this.#state.depth);
  }

  /** The answer is over for another reason: what was held back belongs to it. */
  end(): string {
    if (this.#stopped) return "";
    this.#stopped = true;
    return this.#handOut(this.#heldLength);
  }

  #hold(text: string): void {
    if (text === "") return;
    this.#held.push(text);
    this.#heldLength += text.length;
  }

  /** Takes `length` code units from the front. Every piece is looked at once, however many pushes held it back. */
  #handOut(length: number): string {
    this.#heldLength -= length;
    const out: string[] = [];
    for (let left = length; left > 0; ) {
      const piece = this.#held[this.#first]!;
      const end = Math.min(piece.length, this.#skip + left);
      out.push(piece.slice(this.#skip, end));
      left -= end - this.#skip;
      this.#skip = end;
      if (end === piece.length) {
        this.#first++;
        this.#skip = 0;
      }
    }
    if (2 * this.#first >= this.#held.length) {
      this.#held = this.#held.slice(this.#first); // at most as many as have just left
      this.#first = 0;
    }
    return out.join("");
  }
}

function step(from: State, unit: number): State {
  for (let state = from; ; state = state.fallback) {
    const next = state.next.get(unit);
    if (next) return next;
    if (state.depth === 0) return state;
  }
}

function buildAutomaton(strings: readonly string[]): State {
  const root = makeState(0);
  for (const text of strings) {
    let state = root;
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      let next = state.next.get(unit);
      if (!next) {
        next = makeState(i + 1);
        state.next.set(unit, next);
      }
      state = next;
    }
    state.match = text.length;
  }
  // Breadth first: a state's fallback is less deep, so it is finished before the state is.
  const queue = [root];
  for (let i = 0; i < queue.length; i++) {
    const state = queue[i]!;
    for (const [unit, next] of state.next) {
      next.fallback = state === root ? root : step(state.fallback, unit);
      next.match = Math.max(next.match, next.fallback.match);
      queue.push(next);
    }
  }
  return root;
}

function makeState(depth: number): State {
  const state = { depth, next: new Map<number, State>(), match: 0 } as Omit<State, "fallback"> as State;
  state.fallback = state;
  return state;
}
