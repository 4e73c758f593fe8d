// A vocabulary of every single byte, some longer pieces, and special tokens: what constraints
// are tested with where no model is needed.

import type { StructuredOutput } from "../../src/structured/structured-output.js";
import type { ConstrainedVocabulary } from "../../src/structured/token-bytes.js";

const PIECES = ['{"', '": ', ", ", '"}', "true", "null", "12", "ab", "é", "😀", "\\n", '", "', "[TOOL_CALLS]x"];

/** Bytes are ids 0 … 255, pieces follow, then the special tokens. */
export const END = 256 + PIECES.length;
export const MARK = END + 1;
const encoder = new TextEncoder();

export const byteVocabulary: ConstrainedVocabulary = {
  vocabSize: MARK + 1,
  bytes: (id) =>
    id < 256 ? Uint8Array.of(id) : encoder.encode(id < END ? PIECES[id - 256]! : id === END ? "</s>" : "[TOOL_CALLS]"),
  isSpecial: (id) => id >= END,
};

export type Matcher = Awaited<ReturnType<StructuredOutput["openSource"]>>;

/** Ids that may come next. */
export async function allowedIds(matcher: Matcher): Promise<number[]> {
  while (!matcher.ready) await new Promise((resolve) => setTimeout(resolve, 1));
  const mask = matcher.mask();
  return Array.from({ length: byteVocabulary.vocabSize }, (_, id) => id).filter(
    (id) => ((mask[id >>> 5]! >>> (id & 31)) & 1) === 1,
  );
}

export function textOf(ids: readonly number[]): string {
  const bytes = ids.flatMap((id) => [...byteVocabulary.bytes(id)]);
  return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(bytes));
}

/**
 * Walks through a constraint by choices of `random` (from 0 to below 1), and to its end: after
 * so many tokens what closes something is preferred.
 */
export async function walk(matcher: Matcher, random: () => number, tokens = 60): Promise<string> {
  const ids: number[] = [];
  for (;;) {
    const allowed = await allowedIds(matcher);
    if (allowed.includes(END) && (allowed.length === 1 || ids.length > tokens || random() < 0.3)) return textOf(ids);
    const going = allowed.filter((id) => id !== END);
    const closing =
      ids.length > tokens && random() < 0.7
        ? [...'"}]'].map((character) => character.charCodeAt(0)).filter((byte) => going.includes(byte))
        : [];
    const id = closing[0] ?? going[Math.floor(random() * going.length)]!;
    ids.push(id);
    matcher.accept(id);
    if (ids.length > tokens + 2000) throw new Error(`this constraint finds no end: ${textOf(ids).slice(0, 300)}`);
  }
}

/** Whether a whole text is what the constraint describes. */
export async function describes(matcher: Matcher, text: string): Promise<boolean> {
  matcher.accept(text);
  try {
    return (await allowedIds(matcher)).includes(END);
  } catch {
    return false;
  } finally {
    matcher.close();
  }
}
