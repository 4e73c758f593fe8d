// Where an option's value comes from when it is not on the command line: the environment
// (`--cache-tokens` is EXLLAMA_CACHE_TOKENS), then config.json in the user's configuration
// folder (`{"cacheTokens": 8192}`). Only options that describe the model, the machine and the
// sampling can be set like that; what a command is to do is always said on the command line.

import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { type Command, InvalidArgumentError, type Option } from "commander";
import { UsageError } from "../errors.js";
import { nearestName } from "../sampling/nearest-name.js";
import { onOrOff } from "./flag-values.js";

const settable = new WeakSet<Option>();
/** Names of every option that config.json may have, whatever command reads it. */
const settableNames = new Set<string>();

/** Adds options that the environment and config.json can set, too. */
export function addSettableOptions(command: Command, options: readonly Option[]): Command {
  for (const option of options) {
    settable.add(option);
    settableNames.add(option.attributeName());
    command.addOption(option);
  }
  return command;
}

/** Fills in what the command line did not say. Call it first in every action. @throws {UsageError} */
export function applySettings(command: Command): void {
  const file = readConfigFile();
  for (const option of command.options) {
    if (!settable.has(option)) continue;
    const name = option.attributeName();
    if ((command.getOptionValueSource(name) ?? "default") !== "default") continue;
    const variable = environmentName(option);
    const text = process.env[variable];
    if (text !== undefined && text !== "") set(command, option, text, variable);
    else if (file.values[name] !== undefined)
      set(command, option, textOf(file.values[name], name, file.path), `"${name}" in ${file.path}`);
  }
}

/** EXLLAMA_CACHE_TOKENS for `--cache-tokens`, EXLLAMA_HUGE_PAGES for `--no-huge-pages`. */
export function environmentName(option: Option): string {
  return `EXLLAMA_${option
    .attributeName()
    .replace(/[A-Z]/g, (letter) => `_${letter}`)
    .toUpperCase()}`;
}

function set(command: Command, option: Option, text: string, where: string): void {
  try {
    command.setOptionValueWithSource(option.attributeName(), readValue(option, text), "env");
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error;
    throw new UsageError(`${where} is ${JSON.stringify(text)}: ${error.message}`);
  }
}

function readValue(option: Option, text: string): unknown {
  if (option.isBoolean() || option.negate) return onOrOff(text);
  return option.parseArg ? option.parseArg(text, undefined as never) : text;
}

function textOf(value: unknown, name: string, path: string): string {
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return String(value);
  throw new UsageError(`"${name}" in ${path} is ${JSON.stringify(value)}`, { expected: "a text, a number, true or false" });
}

function readConfigFile(): { path: string; values: Readonly<Record<string, unknown>> } {
  const path = join(process.env.XDG_CONFIG_HOME || join(homedir(), ".config"), "exllama", "config.json");
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return { path, values: {} };
    throw new UsageError(`${path} cannot be read: ${(error as Error).message}`);
  }
  let values: unknown;
  try {
    values = JSON.parse(text);
  } catch (error) {
    throw new UsageError(`${path} is not JSON: ${(error as Error).message}`);
  }
  if (typeof values !== "object" || values === null || Array.isArray(values))
    throw new UsageError(`${path} is not a JSON object`);
  for (const name of Object.keys(values)) {
    if (settableNames.has(name)) continue;
    const nearest = nearestName(name, [...settableNames]);
    throw new UsageError(`${path} has "${name}", which is no setting`, nearest ? { hint: `Did you mean "${nearest}"?` } : {});
  }
  return { path, values: values as Record<string, unknown> };
}
