// Files that the user names on the command line.

import { readFileSync } from "node:fs";
import { UsageError } from "../errors.js";

/** A text file, or standard input for `-`. @throws {UsageError} */
export function readTextFile(path: string): string {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path === "-" ? 0 : path);
  } catch (error) {
    throw new UsageError(`${path} cannot be read: ${(error as Error).message}`);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new UsageError(`${path} is not UTF-8 text`);
  }
}

/** A JSON array of token ids. @throws {UsageError} */
export function readIdsFile(path: string): number[] {
  const value = parse(readTextFile(path), path);
  if (!Array.isArray(value)) throw new UsageError(`${path} is not a list`, { expected: "a JSON array of token ids" });
  const wrong = value.findIndex((id) => !Number.isInteger(id) || id < 0 || id > 0x7fffffff);
  if (wrong >= 0)
    throw new UsageError(`entry ${wrong} of ${path} is ${JSON.stringify(value[wrong])}`, {
      expected: "a token id: a whole number from 0",
    });
  return value as number[];
}

/** The texts under `key` of a file with one JSON object per line; empty lines do not count. @throws {UsageError} */
export function readJsonLines(path: string, key: string): string[] {
  return readTextFile(path)
    .split("\n")
    .flatMap((line, index) => {
      if (line.trim() === "") return [];
      const where = `line ${index + 1} of ${path}`;
      const text = (Object(parse(line, where)) as Record<string, unknown>)[key];
      if (typeof text !== "string")
        throw new UsageError(`${where} has no text under "${key}"`, { hint: "Name the right one with --key." });
      return [text];
    });
}

function parse(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UsageError(`${where} is not JSON: ${(error as Error).message}`);
  }
}
