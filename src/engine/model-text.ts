// A model's tokenizer and chat template. A model without a tokenizer still runs on ids: what
// needs text then says what is missing, when it is asked.

import { encodeChat } from "../text/chat.js";
import type { ChatTemplate } from "../text/chat-template.js";
import { TokenizerError } from "../text/errors.js";
import { createChatTemplate, createTokenizer, readTextFiles } from "../text/load.js";
import type { Tokenizer } from "../text/tokenizer.js";
import type { ChatMessage } from "./model.js";

export class ModelText {
  readonly #source: string;
  readonly #tokenizer: Tokenizer | null;
  readonly #template: ChatTemplate | null;

  constructor(source: string, tokenizer: Tokenizer | null, template: ChatTemplate | null) {
    this.#source = source;
    this.#tokenizer = tokenizer;
    this.#template = template;
  }

  get hasTokenizer(): boolean {
    return this.#tokenizer !== null;
  }

  get hasChatTemplate(): boolean {
    return this.#tokenizer !== null && this.#template !== null;
  }

  /** @throws {TokenizerError} when the model has none */
  get tokenizer(): Tokenizer {
    if (!this.#tokenizer)
      throw new TokenizerError(`${this.#source} has no tokenizer: neither tokenizer.json nor tokenizer.model is there`, {
        hint: "copy the tokenizer files of the original model into the folder, or use token ids only",
      });
    return this.#tokenizer;
  }

  /** Ids of a conversation, ready for an answer. @throws {ChatTemplateError} */
  encodeChat(messages: readonly ChatMessage[]): number[] {
    return encodeChat(this.tokenizer, this.#template, messages);
  }
}

/** @throws {TokenizerError | ChatTemplateError} when files are there and cannot be used */
export async function loadModelText(folder: string): Promise<ModelText> {
  const files = await readTextFiles(folder);
  if (!files.tokenizerJson && !files.tokenizerModel) return new ModelText(folder, null, null);
  return new ModelText(folder, createTokenizer(files), createChatTemplate(files));
}
