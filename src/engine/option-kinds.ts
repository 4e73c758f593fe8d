// Which options a call has, and what kind of value each takes. Programs without types pass
// anything; what is of the wrong kind is refused here, by name, before it crosses to the engine.
// Which numbers or texts make sense is for those to say who use them.

import { UsageError } from "../errors.js";
import { nearestName } from "../sampling/nearest-name.js";

const isText = (value: unknown): boolean => typeof value === "string";
const isNumber = (value: unknown): boolean => typeof value === "number";
const isCallable = (value: unknown): boolean => typeof value === "function";
const fieldsOf = (value: unknown): Record<string, unknown> => Object(value) as Record<string, unknown>;

/** Kinds by how a message calls them. */
const KINDS = {
  "a text": isText,
  "a number": isNumber,
  "a number or a text": (value: unknown) => isNumber(value) || isText(value),
  "true or false": (value: unknown) => typeof value === "boolean",
  "a text or an array of numbers": (value: unknown) => isText(value) || (Array.isArray(value) && value.every(isNumber)),
  "an object of texts": (value: unknown) =>
    typeof value === "object" && value !== null && !Array.isArray(value) && Object.values(value).every(isText),
  "a function": isCallable,
  // By what it can do: another realm's AbortSignal is one, too.
  "an AbortSignal": (value: unknown) =>
    isCallable(fieldsOf(value).addEventListener) && isCallable(fieldsOf(value).throwIfAborted),
} as const;

/** `true`: any, checked by those who use it. */
type Kind = keyof typeof KINDS | true;

/** Every option of a call, and its kind. */
export type OptionKinds<T> = { readonly [K in keyof Required<T>]: Kind };

/**
 * @param call for messages
 * @throws {UsageError} naming the first option that is none, or whose value is of another kind; `undefined` is as if it were not there
 */
export function known<T extends object>(call: string, options: T, kinds: Readonly<Record<string, Kind>>): T {
  if (typeof options !== "object" || options === null)
    throw new UsageError(`the options of ${call} are ${describe(options)}`, { expected: "an object" });
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(kinds, name)) throw unknown(call, name, Object.keys(kinds));
    const kind = kinds[name]!;
    // No option is one, and messages quote values as JSON, which has none.
    if (typeof value === "bigint") throw new UsageError(`${name} is a bigint`, { expected: "a number" });
    if (value !== undefined && kind !== true && !KINDS[kind](value))
      throw new UsageError(`${name} is ${describe(value)}`, { expected: kind });
  }
  return options;
}

/** A model's folder or address. @throws {UsageError} anything but a text */
export function pathOf(path: unknown): string {
  if (typeof path === "string") return path;
  throw new UsageError(`the model is ${describe(path)}`, { expected: "the path of its folder, a text" });
}

function unknown(call: string, name: string, names: readonly string[]): UsageError {
  const nearest = nearestName(name, names);
  return new UsageError(`${call} has no option "${name}"`, {
    hint: nearest ? `did you mean ${nearest}?` : `its options are ${names.join(", ")}`,
    details: { option: name, nearest },
  });
}

/** A value of any kind in a message. */
function describe(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.slice(0, 60));
  return typeof value === "object" && value !== null ? (Array.isArray(value) ? "an array" : "an object") : String(value);
}
