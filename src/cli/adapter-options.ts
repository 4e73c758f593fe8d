// Which of the adapters that a command has loaded it uses, and how much of each.

import { InvalidArgumentError, Option } from "commander";
import type { AdapterChoice } from "../index.js";
import { decimal } from "./flag-values.js";

export interface AdapterFlags {
  /** Loaded ones: paths by name. */
  adapter?: Record<string, string>;
  useAdapter?: AdapterChoice[];
}

export const useAdapterOption = (): Option =>
  new Option(
    "--use-adapter <name[=weight]>",
    "an adapter to use, and how much of it; may be repeated (default: all that are loaded, 1 each)",
  ).argParser(adapterChoice);

/** `name` or `name=weight`, repeated. */
export function adapterChoice(text: string, before: AdapterChoice[] | undefined): AdapterChoice[] {
  const [, name, weight] = /^\s*([^=\s]+)\s*(?:=\s*(\S+)\s*)?$/.exec(text) ?? [];
  if (name === undefined) throw new InvalidArgumentError("It is not NAME or NAME=WEIGHT, such as pirate=0.7.");
  return [...(before ?? []), weight === undefined ? { name } : { name, weight: decimal(weight) }];
}

/** As a request says it; nothing where no adapter is loaded or named. */
export function adapterChoicesOf({ adapter = {}, useAdapter }: AdapterFlags): { adapters?: AdapterChoice[] } {
  const adapters = useAdapter ?? Object.keys(adapter).map((name) => ({ name }));
  return adapters.length > 0 ? { adapters } : {};
}
