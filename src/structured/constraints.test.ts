import { afterAll, describe, expect, it } from "vitest";
import { allowedIds, byteVocabulary, describes, END, MARK, textOf, walk } from "../../test/support/byte-vocabulary.js";
import type { Constraint } from "./constraint.js";
import { ConstraintError } from "./errors.js";
import { GrammarWorker } from "./grammar-worker.js";
import type { ConstraintSource } from "./messages.js";
import { StructuredOutput } from "./structured-output.js";
import { specialMarkers, tokenBytes } from "./token-bytes.js";

const structured = new StructuredOutput(byteVocabulary, [END]);
afterAll(() => structured.close());

const takes = async (constraint: Constraint, text: string) => describes(await structured.open(constraint), text);

describe("a constraint", () => {
  it.each<[Constraint, string[], string[]]>([
    [{ kind: "json" }, ['{"a": [1, true, "x"]}', "{}"], ["[]", "1", '{"a": 1']],
    [{ kind: "choice", choices: ["yes", "no", "yesterday", "né"] }, ["yes", "yesterday", "né"], ["ye", "nope", ""]],
    [{ kind: "regex", pattern: "(?:\\d{3}-)?[a-cé]+|x{2,}" }, ["123-abé", "c", "xxx"], ["12-a", "x", "123-", "123-d"]],
    [{ kind: "regex", pattern: "^[^\\s,]+, .$" }, ["a, b", "a, é"], ["a b, c", "a, \n", ", b"]],
    [{ kind: "regex", pattern: "(ab|ca|abc)*" }, ["", "abcaabc"], ["caa", "abcb"]],
    [{ kind: "grammar", ebnf: 'root ::= "(" root ")" | "x"' }, ["x", "((x))"], ["((x)", "()"]],
    [{ kind: "grammar", ebnf: 'root ::= "ab" "a" | "c" "a" "b" | "ab" "b"' }, ["aba", "cab"], ["caa", "ab"]],
    [
      {
        kind: "grammar",
        ebnf: '# sums\nroot ::= term (("+" | "-") term)*\nterm ::= [1-9] [0-9]{0,2} | "\\x28" root ")"\n   | unused\nunused ::= [^a-z\\]\\-] "\\u00e9"',
      },
      ["1+23-(4+5)", "999", "(1)", "Zé", "A\u00e9+1"],
      ["1+", "01", "1000", "aé"],
    ],
  ])("%j takes what it describes and nothing else", async (constraint, good, bad) => {
    for (const text of good) expect([text, await takes(constraint, text)]).toEqual([text, true]);
    for (const text of bad) expect([text, await takes(constraint, text)]).toEqual([text, false]);
  });

  it.each<[unknown, RegExp]>([
    [null, /kind undefined is not known/],
    [{ kind: "xml" }, /kind "xml" is not known/],
    [{ kind: "regex" }, /pattern is undefined/],
    [{ kind: "json", schema: {} }, /has no "schema"/],
    [{ kind: "jsonSchema" }, /no schema/],
    [{ kind: "jsonSchema", schema: {}, strict: "yes" }, /neither true nor false/],
    [{ kind: "jsonSchema", schema: { description: "x".repeat(300_000) } }, /at most 262144/],
    [{ kind: "choice", choices: [] }, /at least one/],
    [{ kind: "choice", choices: ["a", ""] }, /empty/],
    [{ kind: "choice", choices: ["\ud800"] }, /half of a character/],
    [{ kind: "choice", choices: ["\u0001"] }, /U\+0001/],
    [{ kind: "regex", pattern: "(a" }, /not closed/],
    [{ kind: "regex", pattern: "a)" }, /closes nothing/],
    [{ kind: "regex", pattern: "(a)\\1" }, /\\1 is not possible/],
    [{ kind: "regex", pattern: "a\\b" }, /\\b is not possible/],
    [{ kind: "regex", pattern: "a{3,2}" }, /backwards/],
    [{ kind: "regex", pattern: "a{20000}" }, /at most 10000/],
    [{ kind: "regex", pattern: "x(^a)" }, /\^ is possible only/],
    [{ kind: "regex", pattern: "[\\u4e00-\\u9fff]" }, /20992 characters/],
    [{ kind: "regex", pattern: "(".repeat(5000) + ")".repeat(5000) }, /at most 8192|nested deeper/],
    [{ kind: "grammar", ebnf: "root ::= nothing" }, /"nothing" is not defined \(line 1\)/],
    [{ kind: "grammar", ebnf: `root ::= ${"(".repeat(9000)}"a"${")".repeat(9000)}` }, /nested deeper/],
  ])("that cannot be kept is refused with the reason (%#)", async (constraint, reason) => {
    await expect(structured.open(constraint as Constraint)).rejects.toThrow(reason);
    await expect(structured.open(constraint as Constraint)).rejects.toBeInstanceOf(ConstraintError);
  });

  it("makes only whole characters, whatever bytes are chosen", async () => {
    let state = 7;
    const random = () => {
      state = (state * 48271) % 2147483647;
      return state / 2147483647;
    };
    for (let i = 0; i < 12; i++) {
      const matcher = await structured.open({ kind: "jsonSchema", schema: { type: "string", minLength: 12, maxLength: 20 } });
      const text: string = JSON.parse(await walk(matcher, random, 400)); // textOf throws on anything that is not UTF-8
      expect([...text].length).toBeGreaterThanOrEqual(12);
      matcher.close();
    }
  });

  it("is complete where nothing more can come, and satisfied where something can", async () => {
    const fixed = await structured.open({ kind: "choice", choices: ["ab"] });
    expect(await allowedIds(fixed)).not.toContain(END);
    fixed.accept("ab");
    expect(await allowedIds(fixed)).toEqual([END]);
    expect(fixed.complete).toBe(true);
    const open = await structured.open({ kind: "regex", pattern: "a+" });
    open.accept("a");
    expect(await allowedIds(open)).toContain(END);
    expect(open.complete).toBe(false);
    for (const matcher of [fixed, open]) matcher.close();
  });

  it("never allows special tokens, but those that a source names", async () => {
    const any = await structured.open({ kind: "regex", pattern: ".*" });
    expect(await allowedIds(any)).not.toContain(MARK);
    const marker = structured.markers.get(MARK)!;
    const source: ConstraintSource = {
      kind: "calls",
      before: [{ marker }, "["],
      calls: [["f", { schema: { type: "null" }, strict: true }]],
      separator: [","],
      after: ["]"],
    };
    const calls = await structured.openSource(source);
    expect(await allowedIds(calls)).toEqual([MARK]);
    calls.accept(MARK);
    expect(await describes(calls, "[fnull,fnull]")).toBe(true);
    any.close();
  });
});

describe("the grammar worker", () => {
  /** Limits may be tightened while it runs. */
  function worker() {
    const limits = { open: 30_000, accept: 30_000, memory: 512 * 2 ** 20 };
    return {
      limits,
      grammars: new GrammarWorker(tokenBytes(byteVocabulary, [END], specialMarkers(byteVocabulary, [END])), limits),
    };
  }
  const names = Array.from({ length: 60 }, (_, i) => `property${i}`);
  const inner = { type: "object", properties: Object.fromEntries(names.map((name) => [name, { type: "integer" }])) };
  const LARGE: Constraint = {
    kind: "jsonSchema",
    schema: { type: "object", properties: Object.fromEntries(names.slice(0, 9).map((name) => [name, inner])) },
  };
  const AMBIGUOUS = 'root ::= s "x"\ns ::= s s | s s s | "a" | "aa" | ""';

  it("ends what takes too long to compile, and the others go on where they were", async () => {
    const { limits, grammars } = worker();
    const other = await grammars.open({ kind: "choice", choices: ["abc"] });
    other.accept("ab".charCodeAt(0));
    await allowedIds(other);
    limits.open = 0;
    await expect(grammars.open(LARGE)).rejects.toThrow(/more than 0 s to compile/);
    limits.open = 30_000;
    expect((await allowedIds(other)).map((id) => textOf([id]))).toEqual(["b"]);
    await grammars.close();
  }, 60_000);

  it("ends what takes too long for a token", async () => {
    const { limits, grammars } = worker();
    const matcher = await grammars.open({ kind: "grammar", ebnf: AMBIGUOUS });
    limits.accept = 300;
    matcher.accept("a".repeat(2000));
    await expect(allowedIds(matcher)).rejects.toThrow(/more than 0.3 s for one token/);
    limits.accept = 30_000;
    expect(await describes(await grammars.open({ kind: "choice", choices: ["ok"] }), "ok")).toBe(true);
    await grammars.close();
  }, 60_000);

  it("starts anew when a grammar wants too much memory, and the others go on where they were", async () => {
    const { limits, grammars } = worker();
    const long: Constraint = { kind: "choice", choices: ["x".repeat(100_000)] };
    (await grammars.open(long)).close();
    await grammars.close();
    limits.memory = 17 * 2 ** 20;
    const other = await grammars.open({ kind: "json" });
    other.accept("{".charCodeAt(0));
    await expect(grammars.open(long)).rejects.toThrow(/more memory/);
    expect((await allowedIds(other)).map((id) => textOf([id]))).toEqual(expect.arrayContaining(['"', "}"]));
    await grammars.close();
  }, 60_000);

  it("answers many matchers at once, each for itself", async () => {
    const matchers = await Promise.all(
      Array.from({ length: 40 }, (_, i) => structured.open({ kind: "choice", choices: [`${i}`] })),
    );
    const first = await Promise.all(matchers.map(async (matcher) => (await allowedIds(matcher)).map((id) => textOf([id]))));
    for (const [index, allowed] of first.entries()) expect(allowed).toContain(String(index)[0]);
    for (const matcher of matchers) matcher.close();
  });
});
