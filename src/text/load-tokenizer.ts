// The tokenizer of a folder, for programs that may never ask for one: what reads tokenizers is most
// of the library's code, and is loaded with the first.

import type { Tokenizer } from "./tokenizer.js";

/** The tokenizer of a model's folder: tokenizer.json where there is one, else tokenizer.model. @throws {TokenizerError} */
export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  const { createTokenizer, readTextFiles } = await import("./load.js");
  return createTokenizer(await readTextFiles(folder));
}
