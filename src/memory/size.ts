// Sizes as people write and read them. Inside the program every size is a whole number of
// bytes; text is read and printed only here.

import { UsageError } from "../errors.js";

export const KiB = 2 ** 10;
export const MiB = 2 ** 20;
export const GiB = 2 ** 30;

const UNIT = { B: 1, KB: 1e3, MB: 1e6, GB: 1e9, KiB, MiB, GiB } as const;

const EXPECTED = "a number of GiB such as 5 or 2.8, or 5120MiB, 5GiB, 5GB";

/**
 * Reads a size such as `5`, `2.8`, `5GiB`, `5120MiB` or `5GB`. A bare number is GiB, as in
 * ExLlama's `--gpu_split`; `GB` means 10⁹.
 *
 * @returns whole bytes, rounded down: a cap may never grow by rounding
 * @throws {UsageError} naming the token, and showing the right form
 */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*(B|[KMG]i?B)?$/.exec(text.trim());
  if (!match) throw notASize(text);
  const [, number, unit = "GiB"] = match;
  const bytes = Math.floor(Number(number) * UNIT[unit as keyof typeof UNIT]);
  if (!Number.isSafeInteger(bytes))
    throw new UsageError(`"${text}" is not a size that a device can have`, { expected: `less than ${2 ** 53 / GiB}GiB` });
  return bytes;
}

function notASize(text: string): UsageError {
  const bare = /^(\d+(?:\.\d+)?)\s*([kmg])i?b?$/i.exec(text.trim());
  const unit = bare?.[2]?.toUpperCase();
  return new UsageError(`"${text}" is not a size`, {
    expected: EXPECTED,
    ...(bare ? { hint: `write ${bare[1]}${unit}iB (powers of 1024) or ${bare[1]}${unit}B (powers of 1000)` } : {}),
  });
}

/** `2.70 GiB`, `530 MiB`, `157.2 MiB`, `800 KiB`, `12 B`: short, for people; never read back. */
export function formatBytes(bytes: number): string {
  const size = Math.abs(bytes);
  if (size >= GiB) return `${(bytes / GiB).toFixed(2)} GiB`;
  if (size >= MiB) return `${trimmed(bytes / MiB)} MiB`;
  if (size >= KiB) return `${trimmed(bytes / KiB)} KiB`;
  return `${bytes} B`;
}

/** One decimal, dropped where it says nothing. */
function trimmed(value: number): string {
  return value.toFixed(1).replace(/\.0$/, "");
}

/** The smallest multiple of `step` that is not below `value`. */
export function roundUp(value: number, step: number): number {
  return Math.ceil(value / step) * step;
}
