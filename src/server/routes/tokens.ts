// POST /tokenize and /detokenize: the model's tokenizer.

import { Hono } from "hono";
import { z } from "zod";
import type { RouteContext } from "../app.js";
import type { AppEnv } from "../app-env.js";
import { readJson } from "../body.js";
import { InvalidRequestError } from "../errors.js";
import { messagesOf, messagesSchema } from "../requests/messages.js";
import { checkGoesWith, said } from "../requests/sampling.js";
import { toolShape, toolsOf } from "../requests/tools.js";
import { modelShape, servedModel } from "../served-model.js";

/** More would keep the engine from everybody's answers for long. */
const MOST_CHARACTERS = 2 ** 20;

const tokenizeRequest = z.strictObject({
  model: modelShape.model,
  prompt: z
    .string()
    .max(MOST_CHARACTERS, { error: `at most ${MOST_CHARACTERS} characters at once` })
    .nullish(),
  messages: messagesSchema.nullish(),
  // With messages: functions that the template describes to the model.
  tools: toolShape.tools,
  // For prompts, as in completions; default here: neither.
  add_bos: z.boolean().nullish(),
  parse_special: z.boolean().nullish(),
});

const detokenizeRequest = z.strictObject({ model: modelShape.model, tokens: z.array(z.int().min(0).max(0x7fffffff)) });

export function tokenRoutes({ models, maxBody }: RouteContext): Hono<AppEnv> {
  return new Hono<AppEnv>()
    .post("/tokenize", async (context) => {
      const request = await readJson(context, maxBody, tokenizeRequest);
      const { prompt, messages, add_bos: addBos, parse_special: parseSpecial } = request;
      servedModel(models, request);
      if ((prompt == null) === (messages == null))
        throw new InvalidRequestError("give either 'prompt' or 'messages'", { param: "prompt" });
      if (request.tools?.length) checkGoesWith(messages != null, "tools", "'messages'");
      if (addBos != null) checkGoesWith(prompt != null, "add_bos", "'prompt'");
      if (parseSpecial != null) checkGoesWith(prompt != null, "parse_special", "'prompt'");
      const model = models.current();
      const tokens = messages
        ? await model.tokenizeChat(messagesOf(messages), { tools: toolsOf(request.tools) ?? [] })
        : await model.tokenize(prompt!, said<{ addBos: boolean; parseSpecial: boolean }>({ addBos, parseSpecial }));
      return context.json({ tokens, count: tokens.length, max_model_len: model.plan.context });
    })
    .post("/detokenize", async (context) => {
      const request = await readJson(context, maxBody, detokenizeRequest);
      servedModel(models, request);
      return context.json({ prompt: await models.current().detokenize(request.tokens) });
    });
}
