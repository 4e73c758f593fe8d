// What can go wrong with a constraint on an answer.

import { ExllamaError } from "../errors.js";

/**
 * A constraint that cannot be honoured: a schema with a keyword that is not constrained here, a
 * regular expression or grammar that cannot be read, or one that takes too long. `details.path`
 * says where in a schema (a JSON pointer), `details.at` where in a pattern (characters).
 */
export class ConstraintError extends ExllamaError {
  constructor(message: string, options: { hint?: string; details?: Record<string, unknown>; cause?: unknown } = {}) {
    super("CONSTRAINT", message, options);
  }
}
