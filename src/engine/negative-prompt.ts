// Guidance's negative prompt as a program writes it: ids, or text that becomes ids as the prompt's
// does. In a chat the text stands for the system message: the negative prompt is the same chat as
// if it had been told that.

import type { GenerationOptions } from "../generate/request.js";
import type { ChatMessage } from "./model.js";

/** GenerationOptions as a program writes them. */
export interface WithNegativeText {
  readonly guidance?: { readonly scale: number; readonly negative: readonly number[] | string };
}

/** Options whose negative prompt is ids; what is no guidance at all is left for the options' own checks. */
export function withNegativeIds<T extends WithNegativeText>(
  options: T,
  encode: (text: string) => readonly number[],
): Omit<T, "guidance"> & Pick<GenerationOptions, "guidance"> {
  const { guidance, ...others } = options;
  if (guidance === undefined) return others;
  const negative = typeof guidance?.negative === "string" ? encode(guidance.negative) : guidance?.negative;
  return { ...others, guidance: typeof guidance === "object" && guidance !== null ? { ...guidance, negative } : guidance };
}

/** The same chat with another system message; with none where the text is empty. */
export function withSystem(messages: readonly ChatMessage[], text: string): ChatMessage[] {
  const rest = messages.filter(({ role }) => role !== "system" && role !== "developer");
  return text === "" ? rest : [{ role: "system", content: text }, ...rest];
}
