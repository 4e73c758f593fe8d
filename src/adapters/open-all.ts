// The adapters of one model, opened together in the order in which they were named.

import { UsageError } from "../errors.js";
import type { ModelSpec } from "../model/spec.js";
import { type OpenAdapter, openAdapter } from "./open.js";

/** Each has a place in every step. */
const MOST_ADAPTERS = 64;

/** As requests write it behind the model's: no colon, no space. */
const NAME = /^[\w.-]{1,64}$/;

/**
 * @param paths by the names that requests will use
 * @throws {UsageError} names that cannot be, or too many; and what openAdapter() throws. None is open then
 */
export async function openAdapters(paths: Readonly<Record<string, string>>, spec: ModelSpec): Promise<OpenAdapter[]> {
  const entries = Object.entries(paths);
  if (entries.length > MOST_ADAPTERS)
    throw new UsageError(`${entries.length} adapters`, { expected: `at most ${MOST_ADAPTERS}` });
  const opened: OpenAdapter[] = [];
  try {
    for (const [name, path] of entries) {
      if (!NAME.test(name))
        throw new UsageError(`an adapter cannot be named ${JSON.stringify(name)}`, {
          expected: "up to 64 letters, digits, dots, dashes and underscores",
        });
      if (typeof path !== "string" || path === "")
        throw new UsageError(`adapter ${name} has no path`, { expected: "its folder, with adapter_config.json in it" });
      opened.push(await openAdapter(path, name, spec));
    }
    return opened;
  } catch (error) {
    await closeAdapters(opened);
    throw error;
  }
}

export async function closeAdapters(adapters: readonly OpenAdapter[]): Promise<void> {
  await Promise.all(adapters.map((adapter) => adapter.close()));
}
