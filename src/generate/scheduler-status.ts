// What a scheduler tells of itself: plain figures, for people, servers and tests.

/** What the scheduler is doing, for people and tests. */
export interface SchedulerLoad {
  readonly waiting: number;
  readonly running: number;
  /** Finished sequences whose KV is kept for reuse. */
  readonly idle: number;
  /** Per cache group: pages that nobody holds, and pages reserved by running sequences. */
  readonly freePages: readonly number[];
  readonly reservedPages: readonly number[];
  /** Per cache group: pages that are kept for reuse only, and give way when others need them. */
  readonly idlePages: readonly number[];
  /** Per cache group: pages of the plan. */
  readonly totalPages: readonly number[];
}

/** What the scheduler has done since it began. */
export interface SchedulerCounters {
  readonly steps: number;
  /** Prompt tokens computed; recomputed ones count again. */
  readonly promptTokens: number;
  readonly generatedTokens: number;
  /** Prompt tokens whose KV was there already. */
  readonly reusedTokens: number;
  /** Times that a running request gave its pages back to others. */
  readonly preemptions: number;
}
