// Every failure this program knows is a class with a stable code. The message says what
// happened, to what, what was needed and what there was; `hint` says what to do about it.
// Rooms keep their own classes in `errors.ts` beside their code; only the two that every
// room needs live here.

/** Base of every error that exllama-ts throws on purpose. */
export class ExllamaError extends Error {
  /** Stable, for programs: `USAGE`, `SAFETENSORS`, `PLAN_DOES_NOT_FIT`, … Never reused for another meaning. */
  readonly code: string;
  /** What to do about it, one sentence, or `undefined` where the message says it all. */
  readonly hint: string | undefined;
  /** Figures and names behind the message, plain values only: they cross process borders and go into `--json`. */
  readonly details: Readonly<Record<string, unknown>>;

  constructor(
    code: string,
    message: string,
    options: { hint?: string; details?: Record<string, unknown>; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.hint = options.hint;
    this.details = options.details ?? {};
  }
}

/** An option or argument that cannot be read or does not go with another. The command line exits with 2. */
export class UsageError extends ExllamaError {
  constructor(message: string, options: { expected?: string; hint?: string; details?: Record<string, unknown> } = {}) {
    super("USAGE", options.expected ? `${message}: expected ${options.expected}` : message, options);
  }
}
