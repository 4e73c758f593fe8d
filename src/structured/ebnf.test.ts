import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { byteVocabulary, describes, END } from "../../test/support/byte-vocabulary.js";
import { type Expression, either, oneOf, repeat, sequence, text } from "./expression.js";
import { StructuredOutput } from "./structured-output.js";

const structured = new StructuredOutput(byteVocabulary, [END]);
afterAll(() => structured.close());

const leaf = fc.oneof(
  fc.constantFrom("a", "b", "c", "ab", "").map((value) => text(value)),
  fc.constantFrom("ab", "bc", "a").map((value) => oneOf(value)),
);
const expressions = fc.letrec<{ one: Expression }>((tie) => ({
  one: fc.oneof(
    { maxDepth: 4, depthSize: "medium" },
    leaf,
    fc.array(tie("one"), { minLength: 2, maxLength: 3 }).map((parts) => sequence(...parts)),
    fc.array(tie("one"), { minLength: 2, maxLength: 4 }).map((parts) => either(...parts)),
    fc
      .tuple(tie("one"), fc.constantFrom([0, 1], [0, null], [1, null], [2, 3], [0, 2]) as fc.Arbitrary<[number, number | null]>)
      .map(([part, [least, most]]) => repeat(part, least, most)),
  ),
})).one;

/** The same in JavaScript's own notation. */
function pattern(expression: Expression): string {
  switch (expression.type) {
    case "text":
      return expression.text;
    case "class":
      return `[${expression.ranges.map(([first, last]) => `${String.fromCodePoint(first)}-${String.fromCodePoint(last)}`).join("")}]`;
    case "sequence":
      return expression.parts.map((part) => `(?:${pattern(part)})`).join("");
    case "either":
      return expression.parts.map((part) => `(?:${pattern(part)})`).join("|");
    case "repeat":
      return `(?:${pattern(expression.part)}){${expression.least},${expression.most ?? ""}}`;
    default:
      throw new Error(`no ${expression.type} here`);
  }
}

/** The same as a person would write it in a grammar. */
function ebnf(expression: Expression): string {
  switch (expression.type) {
    case "text":
      return JSON.stringify(expression.text);
    case "sequence":
      return expression.parts.map((part) => `(${ebnf(part)})`).join(" ");
    case "either":
      return expression.parts.map((part) => `(${ebnf(part)})`).join(" | ");
    case "repeat":
      return `(${ebnf(expression.part)}){${expression.least},${expression.most ?? ""}}`;
    default:
      return pattern(expression);
  }
}

const texts = [""];
for (const value of texts) if (value.length < 4) texts.push(...["a", "b", "c"].map((next) => value + next));

describe("a grammar", () => {
  it("takes exactly the texts that it describes", async () => {
    await fc.assert(
      fc.asyncProperty(expressions, fc.shuffledSubarray(texts, { minLength: 12, maxLength: 12 }), async (root, some) => {
        const constraint = { kind: "grammar", ebnf: `root ::= ${ebnf(root)}` } as const;
        const expected = new RegExp(`^(?:${pattern(root)})$`);
        const verdicts = await Promise.all(some.map(async (value) => describes(await structured.open(constraint), value)));
        expect(verdicts.map((verdict, index) => [some[index], verdict])).toEqual(
          some.map((value) => [value, expected.test(value)]),
        );
      }),
      { numRuns: 150 },
    );
  });
});
