// The functions that a model may call, as chat completions describe them.

import { z } from "zod";
import type { ChatOptions, Tool } from "../../engine/model.js";
import { checkGoesWith, said } from "./sampling.js";

const parameters = z.record(z.string(), z.unknown());

const functionTool = z.strictObject({
  type: z.literal("function", { error: "only functions: this server runs no tools of its own" }),
  function: z.strictObject({
    name: z.string(),
    description: z.string().nullish(),
    parameters: parameters.nullish(),
    strict: z.boolean().nullish(),
  }),
});

export const toolShape = {
  tools: z.array(functionTool).nullish(),
  tool_choice: z
    .union([
      z.enum(["none", "auto", "required"]),
      z.strictObject({ type: z.literal("function"), function: z.strictObject({ name: z.string() }) }),
    ])
    .nullish(),
  parallel_tool_calls: z.boolean().nullish(),
};

/** As the engine takes them. Without tools there is nothing to choose. */
export function toolOptions(
  request: z.output<z.ZodObject<typeof toolShape>>,
): Pick<ChatOptions, "tools" | "toolChoice" | "parallelToolCalls"> {
  const { tool_choice: toolChoice, parallel_tool_calls: parallelToolCalls } = request;
  if (parallelToolCalls != null) checkGoesWith(Boolean(request.tools?.length), "parallel_tool_calls", "'tools'");
  if (!request.tools?.length) return said({ toolChoice: toolChoice === "none" ? undefined : toolChoice });
  return said({ tools: toolsOf(request.tools), toolChoice, parallelToolCalls });
}

export function toolsOf(tools: z.output<typeof toolShape.tools>): Tool[] {
  return (tools ?? []).map(({ type, function: described }) => ({ type, function: said<Tool["function"]>(described) }));
}
