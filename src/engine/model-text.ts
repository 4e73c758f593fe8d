// A model's tokenizer and chat template. A model without a tokenizer still runs on ids: what
// needs text then says what is missing, when it is asked.

import { encodeChat } from "../text/chat.js";
import type { ChatTemplate } from "../text/chat-template.js";
import { ChatTemplateError, TokenizerError } from "../text/errors.js";
import { createChatTemplate, createTokenizer, readTextFiles } from "../text/load.js";
import type { ChatMessage, Tool } from "../text/messages.js";
import type { Tokenizer } from "../text/tokenizer.js";
import { type ToolFormat, toolFormatOf } from "../text/tools/tool-format.js";
import { type ToolPrompt, toolPrompt, withoutSystem } from "../text/tools/tool-messages.js";

export class ModelText {
  readonly #source: string;
  readonly #tokenizer: Tokenizer | null;
  readonly #template: ChatTemplate | null;
  readonly #toolTemplate: ChatTemplate | null;
  /** How this model writes calls of tools. */
  readonly toolFormat: ToolFormat;

  /** @param toolTemplate for conversations with tools; default: the same */
  constructor(source: string, tokenizer: Tokenizer | null, template: ChatTemplate | null, toolTemplate = template) {
    this.#source = source;
    this.#tokenizer = tokenizer;
    this.#template = template;
    this.#toolTemplate = toolTemplate;
    this.toolFormat = toolFormatOf(toolTemplate?.source ?? "");
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

  /**
   * Ids of a conversation, ready for an answer.
   *
   * @param tools what the model may call
   * @throws {ChatTemplateError}
   */
  encodeChat(messages: readonly ChatMessage[], tools: readonly Tool[] = []): number[] {
    const template = tools.length > 0 ? this.#toolTemplate : this.#template;
    const prompt = toolPrompt(messages, template?.source ?? "", this.toolFormat, tools);
    const encode = (list: ToolPrompt["messages"]) => encodeChat(this.tokenizer, template, list, { tools: prompt.tools });
    try {
      return encode(prompt.messages);
    } catch (error) {
      // Some templates have no place for the system text that describes the tools.
      if (!(error instanceof ChatTemplateError) || tools.length === 0 || this.toolFormat.native) throw error;
      return encode(withoutSystem(prompt.messages));
    }
  }
}

/** @throws {TokenizerError | ChatTemplateError} when files are there and cannot be used */
export async function loadModelText(folder: string): Promise<ModelText> {
  const files = await readTextFiles(folder);
  if (!files.tokenizerJson && !files.tokenizerModel) return new ModelText(folder, null, null);
  const template = createChatTemplate(files);
  return new ModelText(folder, createTokenizer(files), template, createChatTemplate(files, "tool_use") ?? template);
}
