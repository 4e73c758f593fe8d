// POST /v1/embeddings: the mean of a text's final hidden states, of length 1.

import { Hono } from "hono";
import { wholeAnswer } from "../answer-stream.js";
import type { RouteContext } from "../app.js";
import type { AppEnv } from "../app-env.js";
import { readJson } from "../body.js";
import { refuseTooLong } from "../prompt-length.js";
import { embeddingRequest, inputsOf } from "../requests/embeddings.js";
import { servedModel } from "../served-model.js";

/** Inputs that are computed at once: one request with thousands leaves room for others. */
const AT_ONCE = 16;

export function embeddingRoutes({ models, answering, metrics, maxBody }: RouteContext): Hono<AppEnv> {
  return new Hono<AppEnv>().post("/v1/embeddings", async (context) => {
    const request = await readJson(context, maxBody, embeddingRequest);
    const inputs = inputsOf(request);
    const { name, adapters = [] } = servedModel(models, request);
    for (const input of inputs) if (typeof input === "string") await refuseTooLong(models.current(), [input], "input");
    const scope = answering.begin(context, Math.min(AT_ONCE, inputs.length));
    return wholeAnswer({ context, scope, metrics, route: "/v1/embeddings" }, async () => {
      const { model, signal } = scope;
      const vectors: Float32Array[] = [];
      let tokens = 0;
      for (let at = 0; at < inputs.length; at += AT_ONCE) {
        const part = inputs.slice(at, at + AT_ONCE);
        vectors.push(...(await model.embed(part, { signal, adapters })));
        for (const input of part) tokens += typeof input === "string" ? (await model.tokenize(input)).length : input.length;
      }
      const write = request.encoding_format === "base64" ? base64 : (vector: Float32Array) => Array.from(vector);
      const data = vectors.map((vector, index) => ({ object: "embedding", index, embedding: write(vector) }));
      const usage = { prompt_tokens: tokens, total_tokens: tokens };
      return {
        body: { object: "list", data, model: name, usage },
        usage: { ...usage, completion_tokens: 0, prompt_tokens_details: { cached_tokens: 0 } },
      };
    });
  });
}

/** Little-endian f32, as every platform here has them. */
function base64(vector: Float32Array): string {
  return Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength).toString("base64");
}
