// A session as its file and the page know it: one plain document. Blocks form a tree, so that
// an edited message or another answer lies beside what was there before; `leaf` names the end
// of the branch that is shown. Titles and names are data, never parts of file names.

import { z } from "zod";
import { SessionInvalidError } from "./errors.js";

/** What one session may hold; a document beyond is refused, not cut. */
export const LIMITS = {
  /** A file and a request's body, bytes. */
  bytes: 16 * 2 ** 20,
  title: 200,
  /** Characters of one block, of the fixed prompt and of a free text. */
  text: 2 ** 20,
  blocks: 20_000,
  /** You and the model, or up to seven models around one table. */
  participants: 8,
  name: 40,
  stops: 16,
} as const;

/** How a session is continued: by the model's chat template, by named voices, or as one text. */
export const MODES = ["chat", "voices", "text"] as const;

const id = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/);
const time = z.iso.datetime();
const finite = z.number();

/** A generated token: its text, its log-probability, and the likeliest others as [text, log-probability]. */
const token = z.tuple([z.string().max(400), finite, z.array(z.tuple([z.string().max(400), finite])).max(20)]);

const answer = z.strictObject({
  tokens: z.int().min(0),
  tokensPerSecond: finite.min(0),
  firstTokenMs: finite.min(0),
  /** `stopped`: by the person; `failed`: the reason is in `error`. */
  finish: z.enum(["stop", "length", "stopped", "failed"]),
  error: z.string().max(2000).optional(),
});

const block = z.strictObject({
  id,
  parent: id.nullable(),
  /** `user` and `assistant` in a chat, else the name of a voice. */
  author: z.string().min(1).max(LIMITS.name),
  text: z.string().max(LIMITS.text),
  created: time,
  edited: time.optional(),
  answer: answer.optional(),
  probabilities: z.array(token).max(65_536).optional(),
});

const sampling = z.strictObject({
  temperature: finite.optional(),
  topK: finite.optional(),
  topP: finite.optional(),
  minP: finite.optional(),
  typical: finite.optional(),
  repetitionPenalty: finite.optional(),
  penaltySustain: finite.optional(),
  penaltyDecay: finite.optional(),
  frequencyPenalty: finite.optional(),
  presencePenalty: finite.optional(),
});

/** What a person sets; sampling values that are not there are the model's own. */
const settings = z.strictObject({
  sampling,
  seed: z.int().min(0).nullable(),
  maxTokens: z
    .int()
    .min(1)
    .max(2 ** 20),
  stop: z.array(z.string().min(1).max(200)).max(LIMITS.stops),
  stopOnNewline: z.boolean(),
  /** Ask for the likeliest tokens beside each chosen one. */
  probabilities: z.boolean(),
  /** LoRA adapters in force, by the names they were loaded under. */
  adapters: z
    .array(z.strictObject({ name: z.string().min(1).max(200), weight: finite }))
    .max(64)
    .optional(),
  /** Most voices in a row before it is the person's turn. */
  turns: z.int().min(1).max(32),
});

const content = z.strictObject({
  title: z.string().max(LIMITS.title),
  mode: z.enum(MODES),
  /** Stands before everything; `pinned` keeps it when old blocks no longer fit, else it rolls away with them. */
  prompt: z.strictObject({ text: z.string().max(LIMITS.text), pinned: z.boolean() }),
  participants: z
    .array(z.strictObject({ name: z.string().min(1).max(LIMITS.name), human: z.boolean() }))
    .max(LIMITS.participants),
  settings,
  blocks: z.array(block).max(LIMITS.blocks),
  leaf: id.nullable(),
  /** The first block that the model still sees, once the beginning no longer fits. */
  firstKept: id.nullable(),
  /** Mode `text`: the whole of it. */
  text: z.string().max(LIMITS.text),
});

const document = content.extend({
  format: z.literal("exllama-session"),
  version: z.literal(1),
  id,
  /** Grows by one with every write; a write that names another is refused. */
  revision: z.int().min(1),
  created: time,
  updated: time,
});

export type SessionContent = z.infer<typeof content>;
export type SessionDocument = z.infer<typeof document>;
export type SessionBlock = z.infer<typeof block>;
export type SessionSettings = z.infer<typeof settings>;
export type SessionMode = (typeof MODES)[number];
export type SessionSampling = z.infer<typeof sampling>;
export type TokenProbability = z.infer<typeof token>;

/** What a list of sessions shows. */
export interface SessionSummary {
  readonly id: string;
  readonly title: string;
  readonly mode: SessionMode;
  readonly revision: number;
  readonly created: string;
  readonly updated: string;
  readonly blocks: number;
}

/** @throws {SessionInvalidError} naming the first field that is wrong */
export function readContent(value: unknown): SessionContent {
  // An exported session brings its own head, which says nothing here.
  const {
    format: _f,
    version: _v,
    id: _i,
    revision: _r,
    created: _c,
    updated: _u,
    ...rest
  } = Object(value) as Record<string, unknown>;
  return checkTree(parse(content, rest));
}

/** @throws {SessionInvalidError} naming the first field that is wrong */
export function readDocument(value: unknown): SessionDocument {
  return checkTree(parse(document, value));
}

export function summaryOf({ id, title, mode, revision, created, updated, blocks }: SessionDocument): SessionSummary {
  return { id, title, mode, revision, created, updated, blocks: blocks.length };
}

function parse<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  throw new SessionInvalidError(issue.path.join(".") || "the session", issue.message);
}

/** Ids are unique, and every parent stands before its children: a tree without circles. */
function checkTree<T extends SessionContent>(session: T): T {
  const seen = new Set<string>();
  for (const [index, { id, parent }] of session.blocks.entries()) {
    if (seen.has(id)) throw new SessionInvalidError(`blocks.${index}.id`, `"${id}" is there twice`);
    if (parent !== null && !seen.has(parent))
      throw new SessionInvalidError(`blocks.${index}.parent`, `no block "${parent}" stands before it`);
    seen.add(id);
  }
  for (const field of ["leaf", "firstKept"] as const) {
    const named = session[field];
    if (named !== null && !seen.has(named)) throw new SessionInvalidError(field, `there is no block "${named}"`);
  }
  return session;
}
