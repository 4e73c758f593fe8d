// What can go wrong while a token is chosen.

import { ExllamaError, UsageError } from "../errors.js";

/** A sampling parameter that is unknown, of the wrong kind or out of range. */
export class SamplingParameterError extends UsageError {
  constructor(message: string, options: { expected?: string; hint?: string; details?: Record<string, unknown> } = {}) {
    super(message, options);
  }
}

/** The model's logits hold NaN or +∞, or nothing above −∞: no probability can be made of them. */
export class LogitsError extends ExllamaError {
  constructor(problem: string, details: Record<string, unknown>) {
    super("LOGITS", `the logits cannot be sampled: ${problem}`, {
      details,
      hint: "The weights are damaged or the model overflows its number format; `exllama inspect` and `--cpu-exact` help to tell which.",
    });
  }
}

/** Mask and banned ids together leave no token to choose. */
export class NoTokenAllowedError extends ExllamaError {
  constructor(details: { vocabSize: number; bannedIds: number; masked: boolean }) {
    const causes = [details.masked && "the token mask", details.bannedIds > 0 && `${details.bannedIds} banned ids`];
    super(
      "NO_TOKEN_ALLOWED",
      `no token of ${details.vocabSize} may be chosen: ${causes.filter(Boolean).join(" and ")} exclude them all`,
      { details, hint: "Allow at least one id, for example an end-of-sequence id." },
    );
  }
}
