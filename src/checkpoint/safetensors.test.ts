import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ExllamaError } from "../errors.js";
import { SafetensorsError } from "./errors.js";
import { MAX_HEADER_BYTES, parseSafetensorsHeader, readHeaderLength } from "./safetensors.js";

/** A header's text and so many bytes of contents, parsed. */
function parse(header: string | object, contents: number) {
  const bytes = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  return parseSafetensorsHeader(bytes, { file: "x.safetensors", fileBytes: 8 + bytes.length + contents });
}

function faultOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(SafetensorsError);
    expect((error as SafetensorsError).message).toMatch(/^x\.safetensors: /);
    expect((error as SafetensorsError).hint).toBeTruthy();
    return (error as SafetensorsError).code;
  }
  return "accepted";
}

const tensor = (dtype: unknown, shape: unknown, data_offsets: unknown) => ({ dtype, shape, data_offsets });

describe("the length field", () => {
  const read = (length: bigint, fileBytes: number) => {
    const prefix = new Uint8Array(8);
    new DataView(prefix.buffer).setBigUint64(0, length, true);
    return readHeaderLength(prefix, { file: "x.safetensors", fileBytes });
  };

  it("is believed as far as the file reaches", () => {
    expect(read(92n, 100)).toBe(92);
    expect(faultOf(() => read(93n, 100))).toBe("SAFETENSORS_TRUNCATED");
  });

  it("is refused above the format's limit, before anything of that size is allocated", () => {
    expect(read(BigInt(MAX_HEADER_BYTES), 2 * MAX_HEADER_BYTES)).toBe(MAX_HEADER_BYTES);
    for (const length of [BigInt(MAX_HEADER_BYTES) + 1n, 2n ** 63n, 2n ** 64n - 1n])
      expect(faultOf(() => read(length, Number.MAX_SAFE_INTEGER))).toBe("SAFETENSORS_HEADER_TOO_LARGE");
  });

  it("must be there", () => {
    expect(faultOf(() => readHeaderLength(new Uint8Array(7), { file: "x.safetensors", fileBytes: 7 }))).toBe(
      "SAFETENSORS_TRUNCATED",
    );
    expect(faultOf(() => readHeaderLength(new Uint8Array(0), { file: "x.safetensors", fileBytes: 0 }))).toBe(
      "SAFETENSORS_TRUNCATED",
    );
  });
});

describe("a header", () => {
  it("is read in the order of the bytes, whatever the order of the names", () => {
    const header = {
      b: tensor("F16", [2, 3], [4, 16]),
      __metadata__: { format: "pt" },
      a: tensor("F32", [], [0, 4]),
      empty: tensor("I64", [0, 7], [4, 4]),
    };
    const start = 8 + JSON.stringify(header).length;
    expect(parse(header, 16)).toEqual([
      { name: "a", dtype: "F32", shape: [], file: "x.safetensors", start, bytes: 4 },
      { name: "empty", dtype: "I64", shape: [0, 7], file: "x.safetensors", start: start + 4, bytes: 0 },
      { name: "b", dtype: "F16", shape: [2, 3], file: "x.safetensors", start: start + 4, bytes: 12 },
    ]);
  });

  it("may be padded with spaces, and may hold no tensor at all", () => {
    expect(parse("{}   ", 0)).toEqual([]);
  });

  it("takes names that are traps in JavaScript for what they are", () => {
    const names = ["__proto__", "constructor", "toString", ""];
    const entries = names.map((name, at) => `${JSON.stringify(name)}:${JSON.stringify(tensor("U8", [1], [at, at + 1]))}`);
    expect(parse(`{${entries.join(",")}}`, 4).map(({ name }) => name)).toEqual(names);
  });

  const one = tensor("U8", [4], [0, 4]);
  const huge = 2 ** 52;
  it.each<[string, string | object, number, string]>([
    ["no JSON", "{", 0, "SAFETENSORS_HEADER_SYNTAX"],
    ["an array", "[]", 0, "SAFETENSORS_HEADER_SYNTAX"],
    ["nothing", "", 0, "SAFETENSORS_HEADER_SYNTAX"],
    ["a byte-order mark", "\ufeff{}", 0, "SAFETENSORS_HEADER_SYNTAX"],
    ["text after the object", '{} {"a":1}', 0, "SAFETENSORS_HEADER_SYNTAX"],
    ["deep nesting", `{"a":${"[".repeat(1_000_000)}`, 0, "SAFETENSORS_HEADER_SYNTAX"],
    ["a name twice", `{"a":${JSON.stringify(one)},"a":${JSON.stringify(one)}}`, 4, "SAFETENSORS_DUPLICATE_KEY"],
    [
      "a name twice, spelt differently",
      `{"a":${JSON.stringify(one)},"\\u0061":${JSON.stringify(one)}}`,
      4,
      "SAFETENSORS_DUPLICATE_KEY",
    ],
    ["a field twice", '{"a":{"dtype":"U8","shape":[4],"shape":[4],"data_offsets":[0,4]}}', 4, "SAFETENSORS_DUPLICATE_KEY"],
    ["__proto__ twice", '{"__proto__":{"dtype":"U8"},"__proto__":{}}', 4, "SAFETENSORS_DUPLICATE_KEY"],
    ["a tensor that is none", { a: 4 }, 0, "SAFETENSORS_ENTRY"],
    ["a tensor that is a list", { a: [] }, 0, "SAFETENSORS_ENTRY"],
    ["metadata of numbers", { __metadata__: { format: 1 } }, 0, "SAFETENSORS_ENTRY"],
    ["metadata that is text", { __metadata__: "pt" }, 0, "SAFETENSORS_ENTRY"],
    ["an unknown dtype", { a: tensor("F4", [4], [0, 4]) }, 4, "SAFETENSORS_UNKNOWN_DTYPE"],
    ["an inherited dtype", { a: tensor("toString", [4], [0, 4]) }, 4, "SAFETENSORS_UNKNOWN_DTYPE"],
    ["no dtype", { a: tensor(undefined, [4], [0, 4]) }, 4, "SAFETENSORS_UNKNOWN_DTYPE"],
    ["a negative size", { a: tensor("U8", [-4], [0, 4]) }, 4, "SAFETENSORS_SHAPE"],
    ["two negative sizes", { a: tensor("U8", [-2, -2], [0, 4]) }, 4, "SAFETENSORS_SHAPE"],
    ["half a size", { a: tensor("U8", [0.5, 8], [0, 4]) }, 4, "SAFETENSORS_SHAPE"],
    ["a size in quotes", { a: tensor("U8", ["4"], [0, 4]) }, 4, "SAFETENSORS_SHAPE"],
    ["no shape", { a: tensor("U8", undefined, [0, 4]) }, 4, "SAFETENSORS_SHAPE"],
    ["a product beyond exact numbers", { a: tensor("U8", [huge, huge], [0, 4]) }, 4, "SAFETENSORS_SHAPE"],
    ["a size beyond exact numbers", '{"a":{"dtype":"U8","shape":[1e300],"data_offsets":[0,4]}}', 4, "SAFETENSORS_SHAPE"],
    ["no offsets", { a: tensor("U8", [4], undefined) }, 4, "SAFETENSORS_OFFSETS"],
    ["one offset", { a: tensor("U8", [4], [4]) }, 4, "SAFETENSORS_OFFSETS"],
    ["offsets backwards", { a: tensor("U8", [4], [4, 0]) }, 4, "SAFETENSORS_OFFSETS"],
    ["negative offsets", { a: tensor("U8", [4], [-4, 0]) }, 4, "SAFETENSORS_OFFSETS"],
    ["offsets against the shape", { a: tensor("F16", [4], [0, 4]) }, 4, "SAFETENSORS_OFFSETS"],
    ["two tensors in one place", { a: one, b: one }, 4, "SAFETENSORS_OVERLAP"],
    ["tensors that overlap", { a: one, b: tensor("U8", [4], [3, 7]) }, 7, "SAFETENSORS_OVERLAP"],
    ["a tensor inside another", { a: tensor("U8", [8], [0, 8]), b: tensor("U8", [4], [2, 6]) }, 8, "SAFETENSORS_OVERLAP"],
    ["a hole between tensors", { a: one, b: tensor("U8", [4], [5, 9]) }, 9, "SAFETENSORS_GAP"],
    ["a hole before the first", { a: tensor("U8", [4], [1, 5]) }, 5, "SAFETENSORS_GAP"],
    ["bytes after the last", { a: one }, 5, "SAFETENSORS_GAP"],
    ["a file that ends too soon", { a: one }, 3, "SAFETENSORS_TRUNCATED"],
  ])("is refused for %s", (_, header, contents, fault) => {
    expect(faultOf(() => parse(header, contents))).toBe(fault);
  });

  it("is refused when it is not UTF-8", () => {
    const bytes = new Uint8Array([0x7b, 0xff, 0x7d]);
    expect(faultOf(() => parseSafetensorsHeader(bytes, { file: "x.safetensors", fileBytes: 11 }))).toBe(
      "SAFETENSORS_HEADER_SYNTAX",
    );
  });
});

describe("hostile headers", () => {
  const survives = (run: () => unknown) => {
    try {
      run();
    } catch (error) {
      expect(error).toBeInstanceOf(ExllamaError);
    }
  };

  it("end in nothing but a typed error when they are random bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(400), (bytes, extra) => {
        survives(() => {
          const where = { file: "f", fileBytes: bytes.length + extra };
          readHeaderLength(bytes, where);
          parseSafetensorsHeader(bytes.subarray(8), where);
        });
      }),
      { numRuns: 2000 },
    );
  });

  it("end in nothing but a typed error when they are random JSON", () => {
    const dtype = fc.oneof(fc.constantFrom("F16", "I32", "U8"), fc.string());
    const size = fc.oneof(fc.nat(8), fc.integer(), fc.double(), fc.maxSafeInteger());
    const entry = fc.record(
      { dtype, shape: fc.array(size, { maxLength: 4 }), data_offsets: fc.array(size, { maxLength: 3 }) },
      { requiredKeys: [] },
    );
    const header = fc.dictionary(fc.oneof(fc.string(), fc.constant("__proto__")), fc.oneof(entry, fc.jsonValue()));
    fc.assert(
      fc.property(header, fc.nat(64), (value, contents) => survives(() => parse(value, contents))),
      { numRuns: 2000 },
    );
  });

  it("end in nothing but a typed error, or parse to tensors within the file, when a valid one is damaged", () => {
    const valid = new TextEncoder().encode(
      JSON.stringify({ a: tensor("F16", [2, 3], [0, 12]), b: tensor("U8", [4], [12, 16]), __metadata__: { format: "pt" } }),
    );
    const damage = fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(damage, fc.nat(valid.length), (changes, cut) => {
        const bytes = valid.slice(0, cut % 3 === 0 ? cut : valid.length);
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        const fileBytes = 8 + bytes.length + 16;
        survives(() => {
          for (const { start, bytes: length } of parseSafetensorsHeader(bytes, { file: "f", fileBytes })) {
            expect(start).toBeGreaterThanOrEqual(8 + bytes.length);
            expect(start + length).toBeLessThanOrEqual(fileBytes);
          }
        });
      }),
      { numRuns: 5000 },
    );
  });

  it("of valid files are read back whole", () => {
    const shapes = fc.dictionary(fc.string(), fc.array(fc.nat(5), { maxLength: 3 }), { maxKeys: 8 });
    fc.assert(
      fc.property(shapes, (named) => {
        let end = 0;
        const entries = Object.entries(named).filter(([name]) => name !== "__metadata__");
        const header = entries.map(([name, shape]) => {
          const begin = end;
          end += 2 * shape.reduce((product, size) => product * size, 1);
          return `${JSON.stringify(name)}:${JSON.stringify(tensor("BF16", shape, [begin, end]))}`;
        });
        const tensors = parse(`{${header.join(",")}}`, end);
        expect(new Map(tensors.map(({ name, shape }) => [name, shape]))).toEqual(new Map(entries));
      }),
    );
  });
});
