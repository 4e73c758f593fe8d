// Errors that cross the border between an engine and its caller. Structured clone keeps only
// the message of an Error, so the engine writes the rest out as plain data, and the caller
// revives it as the same class: `instanceof`, `code`, `hint` and `details` hold on both sides.

import * as adapterErrors from "../adapters/errors.js";
import * as cpuErrors from "../backend/cpu/errors.js";
import * as driverErrors from "../backend/cuda/driver/errors.js";
import * as cudaErrors from "../backend/cuda/errors.js";
import * as backendErrors from "../backend/errors.js";
import * as checkpointErrors from "../checkpoint/errors.js";
import { ExllamaError, UsageError } from "../errors.js";
import * as generateErrors from "../generate/errors.js";
import * as memoryErrors from "../memory/errors.js";
import * as modelErrors from "../model/errors.js";
import * as samplingErrors from "../sampling/errors.js";
import * as structuredErrors from "../structured/errors.js";
import * as textErrors from "../text/errors.js";
import * as engineErrors from "./errors.js";
import type { WireError } from "./protocol.js";

type ErrorClass = typeof ExllamaError;

const CLASSES = new Map<string, ErrorClass>(
  [
    { UsageError },
    adapterErrors,
    backendErrors,
    cpuErrors,
    cudaErrors,
    driverErrors,
    checkpointErrors,
    modelErrors,
    memoryErrors,
    samplingErrors,
    structuredErrors,
    textErrors,
    generateErrors,
    engineErrors,
  ]
    .flatMap((room) => Object.entries(room as Record<string, unknown>))
    .filter((entry): entry is [string, ErrorClass] => isErrorClass(entry[1])),
);

const WRITTEN_ELSEWHERE = new Set(["name", "message", "code", "hint", "details", "stack", "cause"]);

/** Causes of causes that are written: more help nobody, and a circle has no end. */
const MOST_CAUSES = 4;

/** Writes an error as plain data; anything thrown will do. */
export function writeError(thrown: unknown, causes = MOST_CAUSES): WireError {
  if (!(thrown instanceof Error)) return writeError(new Error(String(thrown)));
  const own = Object.entries(thrown).filter(([key]) => !WRITTEN_ELSEWHERE.has(key));
  const known = thrown instanceof ExllamaError;
  return {
    name: thrown.name,
    message: thrown.message,
    code: known ? thrown.code : null,
    hint: known ? (thrown.hint ?? null) : null,
    details: known ? plain(Object.entries(thrown.details)) : {},
    fields: plain(own),
    stack: thrown.stack ?? null,
    cause: thrown.cause === undefined || causes === 0 ? null : writeError(thrown.cause, causes - 1),
  };
}

/** The error as the engine threw it: of the same class where this program knows it, else an ExllamaError or Error. */
export function reviveError(wire: WireError): Error {
  const target = wire.code === null ? Error : (CLASSES.get(wire.name) ?? ExllamaError);
  const options = wire.cause === null ? undefined : { cause: reviveError(wire.cause) };
  // The classes' own constructors compose messages from other arguments; the finished error is wanted here.
  const error = Reflect.construct(Error, [wire.message, options], target) as Error;
  const fields: Record<string, unknown> = { ...wire.fields, name: wire.name };
  if (wire.code !== null) Object.assign(fields, { code: wire.code, hint: wire.hint ?? undefined, details: wire.details });
  for (const [key, value] of Object.entries(fields))
    Object.defineProperty(error, key, { value, enumerable: true, configurable: true, writable: true });
  Object.defineProperty(error, "name", { enumerable: false });
  if (wire.stack !== null)
    Object.defineProperty(error, "stack", { value: wire.stack, enumerable: false, configurable: true, writable: true });
  return error;
}

function isErrorClass(value: unknown): value is ErrorClass {
  return typeof value === "function" && (value === ExllamaError || value.prototype instanceof ExllamaError);
}

/** What structured clone can carry, as it is; the rest as text. */
function plain(entries: ReadonlyArray<readonly [string, unknown]>): Record<string, unknown> {
  return Object.fromEntries(
    entries.map(([key, value]) => {
      try {
        return [key, structuredClone(value)];
      } catch {
        return [key, String(value)];
      }
    }),
  );
}
