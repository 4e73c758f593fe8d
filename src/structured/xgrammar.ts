// @mlc-ai/web-xgrammar (Apache-2.0), which lies beside this program's own files: its published
// module is UMD under "type": "module", which Node cannot import, so the build packs its source
// (gzip), and here it runs as CommonJS. It reports failures by writing a line to console.error and aborting; the line is
// what a person wants to read.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { gunzipSync } from "node:zlib";
import { distFile } from "../paths.js";
import type { TokenBytes } from "./messages.js";

/** What is used of the library. */
interface Library {
  readonly TokenizerInfo: {
    createTokenizerInfo(
      vocabulary: readonly string[],
      type: "byte_level",
      prependSpace: boolean,
      size: number,
      stopIds: readonly number[],
    ): Promise<Handle>;
  };
  readonly GrammarCompiler: { createGrammarCompiler(tokens: Handle, cache: boolean): Promise<Compiler> };
  readonly GrammarMatcher: { createGrammarMatcher(compiled: Handle): Promise<LibraryMatcher> };
}
interface Handle {
  dispose(): void;
}
interface Compiler extends Handle {
  compileGrammar(ebnf: string): Promise<Handle>;
}
interface GrowingMemory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): number;
}
export interface LibraryMatcher {
  acceptToken(id: number): boolean;
  _acceptString(text: string): boolean;
  getNextTokenBitmask(): Promise<Int32Array>;
  dispose(): void;
}

/** Compiled grammars that are kept. */
const MOST_COMPILED = 32;

export class XGrammar {
  readonly #library: Library;
  readonly #compiler: Compiler;
  /** By source, the most recently used last. */
  readonly #compiled = new Map<string, Handle>();

  private constructor(library: Library, compiler: Compiler) {
    this.#library = library;
    this.#compiler = compiler;
  }

  /** @param memory most that the library may take, bytes: a grammar that wants more fails */
  static async start(tokens: TokenBytes, memory: number): Promise<XGrammar> {
    limitMemories(memory);
    const library = evaluateLibrary();
    // One token more than there are, for "the answer may end here", whatever tokens end it.
    const words = [...byteLevelWords(tokens), ""];
    const end = words.length - 1;
    const info = await library.TokenizerInfo.createTokenizerInfo(words, "byte_level", false, words.length, [end]);
    return new XGrammar(library, await library.GrammarCompiler.createGrammarCompiler(info, false));
  }

  /** @param ebnf made only when `key` is not compiled yet */
  async matcher(key: string, ebnf: () => string): Promise<LibraryMatcher> {
    const compiled = this.#compiled.get(key) ?? (await this.#compiler.compileGrammar(ebnf()));
    this.#compiled.delete(key);
    this.#compiled.set(key, compiled);
    const [oldest] = this.#compiled;
    if (oldest && this.#compiled.size > MOST_COMPILED) {
      this.#compiled.delete(oldest[0]);
      oldest[1].dispose(); // its matchers keep what they need
    }
    return this.#library.GrammarMatcher.createGrammarMatcher(compiled);
  }
}

function evaluateLibrary(): Library {
  const path = distFile("structured/xgrammar.cjs.gz");
  const module = { exports: {} };
  const run = new Function("exports", "module", "require", "__filename", "__dirname", gunzipSync(readFileSync(path)).toString());
  run(module.exports, module, createRequire(path), path, dirname(path));
  return module.exports as Library;
}

/** The library makes its memory itself, and lets it grow to 2 GiB. */
function limitMemories(bytes: number): void {
  const memories = WebAssembly.Memory.prototype as unknown as GrowingMemory;
  const { grow } = memories;
  memories.grow = function (this: GrowingMemory, pages: number): number {
    if (this.buffer.byteLength + pages * 65536 > bytes) throw new RangeError(`a grammar wants more than ${bytes} bytes`);
    return grow.call(this, pages);
  };
}

/** Tokens in the alphabet of byte-level vocabularies, which has one printable character for every byte. */
function byteLevelWords({ bytes, offsets }: TokenBytes): string[] {
  const alphabet = byteAlphabet();
  return Array.from({ length: offsets.length - 1 }, (_, id) => {
    let word = "";
    for (let at = offsets[id]!; at < offsets[id + 1]!; at++) word += alphabet[bytes[at]!];
    return word;
  });
}

/** Printable bytes stand for themselves, the others, in order, for characters from U+0100. */
function byteAlphabet(): string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCodePoint(printable ? byte : next++);
  });
}
