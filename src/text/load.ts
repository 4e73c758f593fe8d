// The files beside a checkpoint that concern text: read here, bounded in size, and handed to
// pure code.

import { open, stat } from "node:fs/promises";
import { join } from "node:path";
import { ChatTemplate, chatTemplateSource } from "./chat-template.js";
import { TokenizerError } from "./errors.js";
import { sentencePieceVocabulary } from "./sentencepiece.js";
import { Tokenizer } from "./tokenizer.js";
import { readTokenizerConfig } from "./tokenizer-config.js";
import { jsonVocabulary } from "./tokenizer-json.js";

/** Contents of the files of a model's folder; `null` where there is none. */
export interface TextFiles {
  /** Folder or address, for messages. */
  readonly source: string;
  readonly tokenizerJson: Uint8Array | null;
  readonly tokenizerModel: Uint8Array | null;
  readonly tokenizerConfig: Uint8Array | null;
  readonly specialTokensMap: Uint8Array | null;
  readonly chatTemplateJinja: Uint8Array | null;
  readonly chatTemplateJson: Uint8Array | null;
}

const FILES = {
  tokenizerJson: "tokenizer.json",
  tokenizerModel: "tokenizer.model",
  tokenizerConfig: "tokenizer_config.json",
  specialTokensMap: "special_tokens_map.json",
  chatTemplateJinja: "chat_template.jinja",
  chatTemplateJson: "chat_template.json",
} as const;

/** The largest real one (Gemma's tokenizer.json) has 33 MB. */
const LARGEST_FILE = 256 * 2 ** 20;

/** Reads what a folder has of the files above. @throws {TokenizerError} when one is there and cannot be read */
export async function readTextFiles(folder: string): Promise<TextFiles> {
  const contents = await Promise.all(Object.values(FILES).map((name) => readOptional(join(folder, name))));
  const files = Object.fromEntries(Object.keys(FILES).map((key, index) => [key, contents[index]]));
  return { source: folder, ...files } as TextFiles;
}

/** The tokenizer of such files: tokenizer.json where there is one, else tokenizer.model. @throws {TokenizerError} */
export function createTokenizer(files: TextFiles): Tokenizer {
  const config = readTokenizerConfig(
    parseJson(files.tokenizerConfig, FILES.tokenizerConfig, files.source),
    parseJson(files.specialTokensMap, FILES.specialTokensMap, files.source),
  );
  if (files.tokenizerJson)
    return new Tokenizer(jsonVocabulary(parseJson(files.tokenizerJson, FILES.tokenizerJson, files.source), config));
  if (files.tokenizerModel) return new Tokenizer(sentencePieceVocabulary(files.tokenizerModel, config));
  throw new TokenizerError(`${files.source} has no tokenizer: neither tokenizer.json nor tokenizer.model is there`, {
    hint: "Copy the tokenizer files of the original model into the folder.",
  });
}

/**
 * The first of chat_template.jinja, chat_template.json and tokenizer_config.json that has one.
 *
 * @param name one of several named templates (`tool_use`); default: the one called `default`, or the only one
 * @throws {ChatTemplateError}
 */
export function createChatTemplate(files: TextFiles, name?: string): ChatTemplate | null {
  const rawConfig = parseJson(files.tokenizerConfig, FILES.tokenizerConfig, files.source);
  const config = readTokenizerConfig(rawConfig, parseJson(files.specialTokensMap, FILES.specialTokensMap, files.source));
  const source = chatTemplateSource(
    {
      jinja: files.chatTemplateJinja === null ? null : decodeUtf8(files.chatTemplateJinja, FILES.chatTemplateJinja, files.source),
      json: parseJson(files.chatTemplateJson, FILES.chatTemplateJson, files.source),
      config: rawConfig,
    },
    name,
  );
  return source === null ? null : new ChatTemplate(source, { bosToken: config.bos, eosToken: config.eos });
}

function parseJson(bytes: Uint8Array | null, name: string, source: string): unknown {
  if (bytes === null) return null;
  const text = decodeUtf8(bytes, name, source);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new TokenizerError(`${name} of ${source} is not JSON: ${(error as Error).message}`, { cause: error });
  }
}

function decodeUtf8(bytes: Uint8Array, name: string, source: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new TokenizerError(`${name} of ${source} is not UTF-8 text`);
  }
}

async function readOptional(path: string): Promise<Uint8Array | null> {
  let file: Awaited<ReturnType<typeof open>>;
  try {
    // Before opening: a named pipe would wait for somebody to write, a device has no end.
    if (!(await stat(path)).isFile()) throw new TokenizerError(`${path} is not a file`);
    file = await open(path);
  } catch (error) {
    if (error instanceof TokenizerError) throw error;
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw new TokenizerError(`${path} cannot be read: ${(error as Error).message}`, { cause: error });
  }
  try {
    const { size } = await file.stat();
    if (size > LARGEST_FILE) throw new TokenizerError(`${path} has ${size} bytes; at most ${LARGEST_FILE} are read`);
    return await file.readFile();
  } catch (error) {
    if (error instanceof TokenizerError) throw error;
    throw new TokenizerError(`${path} cannot be read: ${(error as Error).message}`, { cause: error });
  } finally {
    await file.close();
  }
}
