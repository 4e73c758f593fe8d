// Values of options as text. Each reader takes what it can read wholly and refuses the rest:
// what range makes sense is for those to say who use the number.

import { InvalidArgumentError } from "commander";

export function wholeNumber(text: string): number {
  if (!/^-?\d+$/.test(text.trim()) || !Number.isSafeInteger(Number(text)))
    throw new InvalidArgumentError("It is not a whole number.");
  return Number(text);
}

/** A whole number of at least 1. */
export function count(text: string): number {
  const value = wholeNumber(text);
  if (value < 1) throw new InvalidArgumentError("It must be at least 1.");
  return value;
}

/** A whole number of at least 0. */
export function zeroOrMore(text: string): number {
  const value = wholeNumber(text);
  if (value < 0) throw new InvalidArgumentError("It must not be negative.");
  return value;
}

/** `0,512,2048`. */
export function wholeNumbers(text: string): number[] {
  return text.split(",").map(zeroOrMore);
}

export function decimal(text: string): number {
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text.trim())) throw new InvalidArgumentError("It is not a number.");
  return Number(text);
}

/** `1,5,7`, or a JSON array. */
export function tokenIds(text: string): number[] {
  const inner = text
    .trim()
    .replace(/^\[(.*)\]$/s, "$1")
    .trim();
  if (inner === "") return [];
  return inner.split(",").map((part) => {
    if (!/^\s*\d+\s*$/.test(part)) throw new InvalidArgumentError(`"${part.trim()}" is not a token id; write them as 1,5,7.`);
    return Number(part);
  });
}

/** `ctx`: a number of tokens, `auto` or `max`. */
export function contextLength(text: string): number | "auto" | "max" {
  if (text === "auto" || text === "max") return text;
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("It is neither a number of tokens nor auto or max.");
  return count(text);
}

/** `5=-1.5,17=2`: added to the logits of those ids. */
export function logitBias(text: string): [id: number, bias: number][] {
  return text.split(",").map((part) => {
    const match = /^\s*(\d+)\s*=\s*(\S+)\s*$/.exec(part);
    if (!match) throw new InvalidArgumentError(`"${part.trim()}" is not ID=BIAS, such as 5=-1.5.`);
    return [Number(match[1]), decimal(match[2]!)];
  });
}

/** Collects a repeated option. */
export function collected(text: string, before: string[] | undefined): string[] {
  return [...(before ?? []), text];
}

/** `name=path`, repeated: paths by name. */
export function adapterPath(text: string, before: Record<string, string> | undefined): Record<string, string> {
  const [, name, path] = /^\s*([^=\s]+)\s*=\s*(.+?)\s*$/.exec(text) ?? [];
  if (name === undefined || path === undefined)
    throw new InvalidArgumentError("It is not NAME=PATH, such as pirate=./lora-pirate.");
  if (before && Object.hasOwn(before, name)) throw new InvalidArgumentError(`There are two adapters named ${name}.`);
  return { ...before, [name]: path };
}

/** A switch from the environment or the config file. */
export function onOrOff(text: string): boolean {
  if (/^(1|true|yes|on)$/i.test(text)) return true;
  if (/^(0|false|no|off)$/i.test(text)) return false;
  throw new InvalidArgumentError("It is neither true nor false.");
}
