// JSON.parse keeps the last of two equal keys and says nothing, and builds whatever nesting
// it is given. Both matter for text from strangers: two readers of one file must not see two
// different files. This scan, one pass over the text, finds what JSON.parse hides. It does
// not judge the syntax: that is left to JSON.parse, whose verdict comes first.

/** What a scan found; meaningful for valid JSON only, except `tooDeep`. */
export interface JsonKeys {
  /** Objects and arrays are nested deeper than asked for; nothing else was looked at then. */
  readonly tooDeep: boolean;
  /** A key that stands twice in the same object, or `null`. */
  readonly duplicate: string | null;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COLON = 0x3a;

/** Scans JSON text in linear time; never throws. */
export function scanJsonKeys(text: string, maxDepth: number): JsonKeys {
  const open: (Set<string> | null)[] = [];
  let duplicate: string | null = null;
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case 0x7b: // {
        open.push(new Set());
        break;
      case 0x5b: // [
        open.push(null);
        break;
      case 0x7d: // }
      case 0x5d: // ]
        open.pop();
        break;
      case QUOTE: {
        const end = stringEnd(text, at);
        const keys = open.at(-1);
        if (keys && isKey(text, end + 1)) {
          const key = decode(text.slice(at, end + 1));
          if (keys.has(key)) duplicate ??= key;
          keys.add(key);
        }
        at = end;
        break;
      }
    }
    if (open.length > maxDepth) return { tooDeep: true, duplicate: null };
  }
  return { tooDeep: false, duplicate };
}

/** Index of the quote that ends the string beginning at `start`, or the text's end. */
function stringEnd(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === BACKSLASH) at++;
    else if (code === QUOTE) return at;
  }
  return text.length;
}

function isKey(text: string, after: number): boolean {
  let at = after;
  while (at < text.length && text.charCodeAt(at) <= 0x20) at++;
  return text.charCodeAt(at) === COLON;
}

/** `"a\u0062"` and `"ab"` are the same key. */
function decode(literal: string): string {
  if (!literal.includes("\\")) return literal.slice(1, -1);
  try {
    return JSON.parse(literal) as string;
  } catch {
    return literal; // not JSON; JSON.parse will say so of the whole text
  }
}
