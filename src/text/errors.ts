// What can go wrong between text and token ids.

import { ExllamaError } from "../errors.js";

/** A tokenizer file that is missing, damaged, or asks for something this program does not do. */
export class TokenizerError extends ExllamaError {
  constructor(message: string, options: { hint?: string; details?: Record<string, unknown>; cause?: unknown } = {}) {
    super("TOKENIZER", message, options);
  }
}

/** A chat template that is missing, cannot be read, or fails on these messages. */
export class ChatTemplateError extends ExllamaError {
  constructor(message: string, options: { hint?: string; details?: Record<string, unknown>; cause?: unknown } = {}) {
    super("CHAT_TEMPLATE", message, options);
  }
}

/** Messages, tools or a tool choice that are not what they must be; says which and where. */
export class ChatMessageError extends ExllamaError {
  constructor(message: string, options: { hint?: string; details?: Record<string, unknown> } = {}) {
    super("CHAT_MESSAGE", message, options);
  }
}
