// Runs the rows of a benchmark on a loaded model, over and over, and says what came of it.

import type { CardMeters } from "../../engine/card-meters.js";
import { ExllamaError } from "../../errors.js";
import type { AdapterChoice, GenerateOptions, Model } from "../../index.js";
import { type Arrival, type DecodeWindow, decodeWindow } from "./decode-window.js";
import { answerLength, type BenchRow, type DecodeRow, type PromptRow, promptLength, rowName } from "./rows.js";
import { type Spread, spreadOf } from "./statistics.js";
import { stepTraffic } from "./traffic.js";

export interface MeasuredRow {
  readonly row: BenchRow;
  /** Of all sequences together. */
  readonly tokensPerSecond: Spread;
  /** Tokens that a decoding sequence held in the middle of the timed steps, on average; `null` for prompts. */
  readonly held: number | null;
  /** What a decode step has to read, bytes; `null` for prompts, and where guesses make a step more than one token. */
  readonly stepBytes: number | null;
  /** Of the median, bytes; `null` as above. */
  readonly bytesPerSecond: number | null;
  /** `null` where no card counts its energy. */
  readonly joulesPerToken: number | null;
}

export interface MeasureOptions {
  readonly repeat: number;
  /** Unmeasured runs before each row. */
  readonly warmups: number;
  /** Answers guess ahead. */
  readonly guessing: boolean;
  readonly adapters: { readonly adapters?: AdapterChoice[] };
  readonly signal: AbortSignal;
  /** Hears what is being measured. */
  readonly onRun: (name: string, run: number) => void;
}

/** Runs that are tried before a row counts as too short to be measured. */
const ATTEMPTS = 4;

/** One run of a row. */
interface Run {
  readonly tokensPerSecond: number;
  /** Tokens that a sequence held, on average; 0 for prompts. */
  readonly held: number;
  readonly joules: number | null;
  /** That the joules are for. */
  readonly tokens: number;
}

/** What the cards' meters showed, and when. */
interface Metered {
  /** ms */
  readonly at: number;
  readonly joules: number | null;
}

export class RowRunner {
  readonly #model: Model;
  readonly #meters: CardMeters;
  readonly #options: MeasureOptions;
  #prompts = 0;

  constructor(model: Model, meters: CardMeters, options: MeasureOptions) {
    this.#model = model;
    this.#meters = meters;
    this.#options = options;
  }

  async measure(row: BenchRow): Promise<MeasuredRow> {
    const { repeat, warmups, onRun } = this.#options;
    // Decoding has the same prompts each time, so that only the first run computes them whole.
    const prompts = row.kind === "decode" ? Array.from({ length: row.batch }, () => this.#newPrompt(promptLength(row))) : [];
    const runs: Run[] = [];
    for (let run = -warmups; run < repeat; run++) {
      onRun(rowName(row), run);
      const result = row.kind === "prompt" ? await this.#prompt(row) : await this.#decodeWell(row, prompts);
      if (run >= 0) runs.push(result);
    }
    return this.#summary(row, runs);
  }

  async #prompt(row: PromptRow): Promise<Run> {
    const before = this.#meters.joules();
    const { timings } = await this.#model.generate(this.#newPrompt(row.tokens), this.#answer(1)).result;
    if (timings.reusedTokens > 0)
      throw new ExllamaError("BENCH_PROMPT_REUSED", `${timings.reusedTokens} tokens of a prompt were in the cache already`);
    const joules = difference(before, this.#meters.joules());
    return { tokensPerSecond: timings.promptTokensPerSecond, held: 0, joules, tokens: row.tokens };
  }

  /** On a busy machine the tokens of a short run can arrive all together: such a run says nothing, and is done again. */
  async #decodeWell(row: DecodeRow, prompts: readonly number[][]): Promise<Run> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const run = await this.#decode(row, prompts);
      if (run) return run;
    }
    throw new ExllamaError("BENCH_TOO_SHORT", `${rowName(row)}: the sequences were never all decoding at once`, {
      hint: "Use more --tokens, or a larger --prefill-chunk.",
    });
  }

  /** @returns `null` where the sequences were never all decoding at once */
  async #decode(row: DecodeRow, prompts: readonly number[][]): Promise<Run | null> {
    const enough = new AbortController();
    const signal = AbortSignal.any([this.#options.signal, enough.signal]);
    const arrivals: Arrival[][] = prompts.map(() => []);
    const { prefillChunk } = this.#model.plan.run;
    let waiting = prompts.length;
    let lastOne: Arrival[] | null = null;
    let metered: Metered | null = null;
    const options = { ...this.#answer(answerLength(row, prefillChunk)), signal };
    const reading = prompts.map(async (prompt, index) => {
      const ours = arrivals[index]!;
      for await (const { ids } of this.#model.generate(prompt, options).events()) {
        if (ids.length === 0) continue;
        ours.push({ at: performance.now(), ids: ids.length });
        if (ours.length === 1 && --waiting === 0) lastOne = ours;
        // A card takes its time to answer, up to some milliseconds, in which nothing that arrives is noted. So it is asked when every
        // sequence's time has begun, and whatever came with this token has been noted too.
        if (ours === lastOne && ours.length === 2)
          setImmediate(() => {
            metered = { at: performance.now(), joules: this.#meters.joules() };
          });
        // What the last one has been given, all have been.
        if (ours === lastOne && ours.reduce((sum, each) => sum + each.ids, 0) >= row.tokens) enough.abort(enough);
      }
    });
    for (const { reason } of (await Promise.allSettled(reading)).filter((one) => one.status === "rejected"))
      if (reason !== enough) throw reason;
    const window = decodeWindow(arrivals);
    return window && this.#runOf(row, window, arrivals.flat(), metered);
  }

  #runOf(
    row: DecodeRow,
    { tokensPerSecond, answered }: DecodeWindow,
    arrivals: readonly Arrival[],
    metered: Metered | null,
  ): Run {
    const { at, joules } = metered ?? { at: Number.POSITIVE_INFINITY, joules: null };
    const tokens = arrivals.reduce((sum, each) => sum + (each.at > at ? each.ids : 0), 0);
    return { tokensPerSecond, held: promptLength(row) + answered, joules: difference(joules, this.#meters.joules()), tokens };
  }

  #summary(row: BenchRow, runs: readonly Run[]): MeasuredRow {
    const tokensPerSecond = spreadOf(runs.map((run) => run.tokensPerSecond));
    const joules = runs.reduce((sum: number | null, run) => (sum === null || run.joules === null ? null : sum + run.joules), 0);
    const tokens = runs.reduce((sum, run) => sum + run.tokens, 0);
    const held = row.kind === "prompt" ? null : runs.reduce((sum, run) => sum + run.held, 0) / runs.length;
    const stepBytes = held === null || this.#options.guessing ? null : this.#stepBytes((row as DecodeRow).batch, held);
    return {
      row,
      tokensPerSecond,
      held,
      stepBytes,
      bytesPerSecond: stepBytes === null ? null : (stepBytes * tokensPerSecond.median) / (row as DecodeRow).batch,
      // Cards count in steps of some milliseconds: no difference means too short, not free.
      joulesPerToken: joules ? joules / tokens : null,
    };
  }

  #stepBytes(batch: number, held: number): number {
    const traffic = stepTraffic(this.#model.plan);
    return Math.round(traffic.weights + batch * traffic.cache(held));
  }

  #answer(maxTokens: number): GenerateOptions {
    const { signal, adapters } = this.#options;
    return { maxTokens, temperature: 0, ignoreEos: true, signal, ...adapters };
  }

  /** Ids without meaning, other ones each time from the first on, so that no prompt is found in the cache. */
  #newPrompt(length: number): number[] {
    const round = ++this.#prompts;
    return Array.from({ length }, (_, index) => ((index + 1) * 7919 + round * 104_729) % this.#model.info.vocabSize);
  }
}

function difference(before: number | null, after: number | null): number | null {
  return before === null || after === null ? null : after - before;
}
