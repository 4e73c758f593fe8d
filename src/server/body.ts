// Reads a request's body: JSON, of the right type, no larger than allowed, and of the shape that
// the route wants. What is wrong is said as the OpenAI API says it, naming the parameter.

import type { Context } from "hono";
import { z } from "zod";
import { nearestName } from "../sampling/nearest-name.js";
import type { AppEnv } from "./app-env.js";
import {
  ApiError,
  BodyTooLargeError,
  ClientGoneError,
  ContentTypeError,
  InvalidRequestError,
  TooManyBodiesError,
} from "./errors.js";
import { hasMoreValues } from "./value-count.js";

/** Reads and checks; unknown parameters are refused unless the schema takes them. */
export async function readJson<T extends z.ZodType>(context: Context<AppEnv>, maxBody: number, schema: T): Promise<z.output<T>> {
  const type = context.req.header("content-type");
  if (!/^application\/(?:[\w.+-]+\+)?json(?:;|$)/i.test(type ?? "")) throw new ContentTypeError(type);
  const text = await readText(context, maxBody);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new InvalidRequestError(`the body is not JSON: ${(error as Error).message}`, { code: "INVALID_JSON" });
  }
  if (!(schema instanceof z.ZodUnknown) && hasMoreValues(value, MOST_VALUES))
    throw new InvalidRequestError(`the body has more than ${MOST_VALUES} values`, {
      code: "BODY_TOO_COMPLEX",
      hint: "Send fewer messages, texts or keys in one request; ids in lists are not counted.",
    });
  return checkShape(value, schema);
}

/** A schema looks at each value by itself, some microseconds long, and nobody else is served meanwhile. */
const MOST_VALUES = 30_000;

/** Bytes of bodies that are being read, over all requests. */
const MOST_UNDER_WAY = 256 * 2 ** 20;
let underWay = 0;

/** @throws {InvalidRequestError} for the first thing that is wrong */
export function checkShape<T extends z.ZodType>(value: unknown, schema: T): z.output<T> {
  const result = schema.safeParse(withoutUnsaid(value), { reportInput: true });
  if (result.success) return result.data;
  throw refusal(result.error.issues, schema);
}

/** A parameter that means nothing here and is null says nothing. */
function withoutUnsaid(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).filter(([key, one]) => one !== null || !NOT_HERE.has(key)));
}

async function readText(context: Context<AppEnv>, maxBody: number): Promise<string> {
  const { body, signal } = context.req.raw;
  if (Number(context.req.header("content-length") ?? 0) > maxBody) throw new BodyTooLargeError(maxBody);
  if (!body) return "";
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  try {
    for await (const chunk of body as unknown as AsyncIterable<Uint8Array>) {
      bytes += chunk.byteLength;
      underWay += chunk.byteLength;
      if (bytes > maxBody) throw new BodyTooLargeError(maxBody);
      if (underWay > MOST_UNDER_WAY) throw new TooManyBodiesError();
      text += decoder.decode(chunk, { stream: true });
    }
  } catch (error) {
    if (error instanceof ApiError) throw error;
    if (signal.aborted) throw new ClientGoneError();
    throw new InvalidRequestError("the body ended before it was complete", { code: "INVALID_BODY" });
  } finally {
    underWay -= bytes;
  }
  return text + decoder.decode();
}

type Issue = z.core.$ZodIssue;

function refusal(issues: readonly Issue[], schema: z.ZodType): InvalidRequestError {
  const issue = deepest(issues);
  const param = parameterName(issue.path);
  if (issue.code === "unrecognized_keys") return unknownParameter(issue.keys[0] ?? "", issue.path, schema);
  if (issue.code === "invalid_type" && issue.input === undefined)
    return new InvalidRequestError(`you must give '${param}'`, { param, code: "MISSING_REQUIRED_PARAMETER" });
  const code = issue.code === "invalid_type" || issue.code === "invalid_union" ? "INVALID_TYPE" : "INVALID_VALUE";
  const what = param === "" ? "the body" : `'${param}'`;
  return new InvalidRequestError(`${what}: ${lowerFirst(issue.message.replace(/^Invalid input: /, ""))}`, {
    param: param || null,
    code,
  });
}

/** Of a union's complaints, those of the branch that went furthest: that is what the client meant. */
function deepest(issues: readonly Issue[]): Issue {
  const issue = issues[0]!;
  if (issue.code !== "invalid_union") return issue;
  const branches = issue.errors.filter((branch) => branch.length > 0).map((branch) => deepest(branch as Issue[]));
  const furthest = branches.reduce<Issue | null>((best, one) => (one.path.length > (best?.path.length ?? 0) ? one : best), null);
  const unrecognized = branches.find((one) => one.code === "unrecognized_keys");
  const chosen = furthest ?? unrecognized;
  return chosen ? ({ ...chosen, path: [...issue.path, ...chosen.path] } as Issue) : issue;
}

/** `messages[0].content` */
function parameterName(path: readonly PropertyKey[]): string {
  return path.reduce<string>((name, part) => {
    if (typeof part === "number") return `${name}[${part}]`;
    return name === "" ? String(part) : `${name}.${String(part)}`;
  }, "");
}

function unknownParameter(key: string, path: readonly PropertyKey[], schema: z.ZodType): InvalidRequestError {
  const param = parameterName([...path, key]);
  const reason = path.length === 0 ? NOT_HERE.get(key) : undefined;
  if (reason !== undefined)
    return new InvalidRequestError(`'${param}' is not supported: ${reason}`, { param, code: "UNSUPPORTED_PARAMETER" });
  const names = path.length === 0 && schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
  const nearest = nearestName(key, names);
  return new InvalidRequestError(`there is no parameter '${param}'`, {
    param,
    code: "UNKNOWN_PARAMETER",
    ...(nearest ? { hint: `Did you mean '${nearest}'?` } : {}),
  });
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

/** Parameters of the OpenAI API that mean something elsewhere, and why not here. */
const NOT_HERE: ReadonlyMap<string, string> = new Map([
  ["audio", "this model writes text only"],
  ["function_call", "it was replaced by 'tool_choice'"],
  ["functions", "it was replaced by 'tools'"],
  ["prediction", "answers are always computed; speculation is the server's to choose (--speculate)"],
  ["web_search_options", "this server searches nothing"],
  ["background", "answers are not kept"],
  ["conversation", "conversations are not kept; send the messages, or 'previous_response_id'"],
  ["prompt", "stored prompts are not kept here"],
  ["suffix", "this model was not trained to fill a gap; give what comes before as 'prompt'"],
  ["moderation", "nothing is moderated here"],
  ["prompt_cache_options", "prompts stay cached as long as there is room, whoever asks"],
  ["prompt_cache_retention", "prompts stay cached as long as there is room, whoever asks"],
  ["context_management", "contexts are not rewritten; send shorter ones"],
  ["dimensions", "embeddings have the size of the model's hidden states"],
]);
