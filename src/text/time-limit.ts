// A wall-clock limit on code whose running time a file decides: regular expressions of a
// tokenizer.json may backtrack for ever, chat templates may loop. JavaScript can stop itself
// only from outside, which node:vm does for whatever runs under it.

import { createContext, Script } from "node:vm";

const holder: { task: (() => void) | null } = { task: null };
const context = createContext(holder);
const script = new Script("task()");

/**
 * Runs `work` and returns what it returns.
 *
 * @throws what `onTimeout` makes, when it took longer; what `work` throws, else
 */
export function withTimeLimit<T>(milliseconds: number, work: () => T, onTimeout: () => Error): T {
  let result: { value: T } | undefined;
  const outer = holder.task;
  holder.task = () => {
    result = { value: work() };
  };
  try {
    script.runInContext(context, { timeout: Math.ceil(milliseconds) });
  } catch (error) {
    if ((error as { code?: unknown } | null)?.code === "ERR_SCRIPT_EXECUTION_TIMEOUT") throw onTimeout();
    throw error;
  } finally {
    holder.task = outer;
  }
  return result!.value;
}
