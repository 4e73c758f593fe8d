// The format of a model's calls as the grammar of one or several of them.

import type { Tool } from "../messages.js";
import type { ToolFormat } from "./tool-format.js";

/** Text with special tokens in it, or the arguments of a call. */
export type CallText = string | { readonly schema: unknown; readonly strict: boolean };

/** One or several calls: texts in which marks are spelled out. */
export interface CallTexts {
  readonly before: string;
  readonly calls: readonly (readonly CallText[])[];
  /** `null`: one call. */
  readonly separator: string | null;
  readonly after: string;
}

/** An answer that is nothing but calls. */
export function wholeCalls(format: ToolFormat, tools: readonly Tool[], several: boolean): CallTexts {
  const { begin, open, close, end, between } = format;
  const many = several && format.parallel;
  if (format.separator === null)
    return {
      before: "",
      calls: tools.map((tool) => [begin + open, ...callOf(format, tool), close + end]),
      separator: many ? between : null,
      after: "",
    };
  return {
    before: begin + open,
    calls: tools.map((tool) => callOf(format, tool)),
    separator: many ? format.separator : null,
    after: close + end,
  };
}

/** What follows a mark. */
export function callsBehindMark(format: ToolFormat, tools: readonly Tool[], several: boolean): CallTexts {
  const one = format.separator === null;
  const whole = wholeCalls({ ...format, begin: "" }, tools, several);
  return one ? { ...whole, separator: null } : whole;
}

function callOf(format: ToolFormat, { function: { name, parameters, strict } }: Tool): CallText[] {
  return [format.before(name), { schema: parameters, strict: strict ?? true }, format.after];
}
