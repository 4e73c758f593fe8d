// Values from a config file, believed only after their kind and range are checked. As in
// transformers, `null` means the same as a key that is not there.

import { ModelConfigError } from "./errors.js";

/** An allowed range, inclusive. */
export interface Range {
  readonly min: number;
  readonly max: number;
}

/** One JSON object of a config file. */
export class ConfigValues {
  /** The file, and the path inside it, for messages: `config.json: rope_scaling`. */
  readonly where: string;
  readonly #object: Readonly<Record<string, unknown>>;

  /** @throws {ModelConfigError} when `value` is not an object */
  constructor(value: unknown, where: string) {
    if (typeof value !== "object" || value === null || Array.isArray(value))
      throw new ModelConfigError(`${where} is ${describe(value)}; an object is needed`);
    this.#object = value as Record<string, unknown>;
    this.where = where;
  }

  /** Keys whose value is not null. */
  keys(): string[] {
    return Object.keys(this.#object).filter((key) => this.raw(key) !== undefined);
  }

  has(key: string): boolean {
    return this.raw(key) !== undefined;
  }

  /** The key is there and says null, where that differs from a key that is not there. */
  isNull(key: string): boolean {
    return Object.hasOwn(this.#object, key) && this.#object[key] === null;
  }

  /** The value as it stands; `undefined` for null, missing and inherited keys. */
  raw(key: string): unknown {
    return Object.hasOwn(this.#object, key) ? (this.#object[key] ?? undefined) : undefined;
  }

  /** @throws {ModelConfigError} missing (without a default), not a whole number, or out of range */
  integer<T = number>(key: string, range: Range, ...fallback: [T?]): number | T {
    return this.#checked(key, `a whole number from ${range.min} to ${range.max}`, fallback, (value) =>
      Number.isSafeInteger(value) && inRange(value as number, range) ? (value as number) : undefined,
    );
  }

  /** @throws {ModelConfigError} missing (without a default), not a finite number, or out of range */
  number<T = number>(key: string, range: Range, ...fallback: [T?]): number | T {
    return this.#checked(key, `a number from ${range.min} to ${range.max}`, fallback, (value) =>
      typeof value === "number" && inRange(value, range) ? value : undefined,
    );
  }

  /** @throws {ModelConfigError} neither true nor false */
  boolean(key: string, fallback: boolean): boolean {
    return this.#checked(key, "true or false", [fallback], (value) => (typeof value === "boolean" ? value : undefined));
  }

  /** @throws {ModelConfigError} missing (without a default) or not text */
  string<T = string>(key: string, ...fallback: [T?]): string | T {
    return this.#checked(key, "text", fallback, (value) => (typeof value === "string" ? value : undefined));
  }

  /** @throws {ModelConfigError} not an object; `null` where the key is not there */
  object(key: string): ConfigValues | null {
    const value = this.raw(key);
    return value === undefined ? null : new ConfigValues(value, `${this.where}: ${key}`);
  }

  #checked<T, F>(key: string, expected: string, fallback: [F?], accept: (value: unknown) => T | undefined): T | F {
    const value = this.raw(key);
    if (value === undefined) {
      if (fallback.length > 0) return fallback[0] as F;
      throw new ModelConfigError(`${this.where} has no ${key}; ${expected} is needed`, { details: { key } });
    }
    const accepted = accept(value);
    if (accepted === undefined)
      throw new ModelConfigError(`${this.where}: ${key} is ${describe(value)}; ${expected} is needed`, { details: { key } });
    return accepted;
  }
}

/** A value in a message, never longer than a few words. */
export function describe(value: unknown): string {
  const text = value === undefined ? "missing" : (JSON.stringify(value) ?? String(value));
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}

function inRange(value: number, { min, max }: Range): boolean {
  return value >= min && value <= max;
}
