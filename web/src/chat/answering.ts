// Answers under way, at most one in each session: what is asked for, what has come so far, and
// how it ends. The pieces are kept beside the session and put into it at the end, and now and
// then before, so that a page that is closed in the middle keeps nearly all of it.

import { type Signal, signal } from "@preact/signals";
import { page } from "../page-data.js";
import { type AnswerEnd, type AnswerRequest, type Piece, streamChat, streamText } from "../server/completions.js";
import { newId, titleFrom } from "../session/content.js";
import type { SessionBlock, SessionContent, TokenProbability } from "../session/document.js";
import type { OpenSession } from "../session/open-session.js";
import { append, branchOf, change } from "../session/tree.js";
import { announceAnswer, announceEnd } from "../ui/announce.js";
import { counted } from "./counted.js";
import { fitBranch } from "./fit.js";
import { chatMessages, transcript, voiceStops } from "./prompts.js";
import { nextSpeaker } from "./speakers.js";

/** A block that is being written. */
export interface LiveAnswer {
  readonly block: string;
  readonly text: string;
  readonly probabilities: readonly TokenProbability[];
}

export interface Work {
  readonly live: LiveAnswer | null;
  /** What is being done, in words: `choosing who speaks next`. */
  readonly doing: string;
  stop(): void;
}

const KEEP_EVERY_MS = 4000;
const DRAW_EVERY_MS = 50;

const work = new WeakMap<OpenSession, Signal<Work | null>>();

/** What is going on in a session, or `null`. */
export function workOf(session: OpenSession): Signal<Work | null> {
  let found = work.get(session);
  if (!found) {
    found = signal<Work | null>(null);
    work.set(session, found);
  }
  return found;
}

/** Says something, and lets the model answer, or the voices go on. */
export async function say(session: OpenSession, text: string): Promise<void> {
  const { participants, mode } = session.content.peek();
  const author = mode === "voices" ? (participants.find(({ human }) => human)?.name ?? "You") : "user";
  if (text.trim() !== "") addBlock(session, author, text.trim());
  await goOn(session);
}

/** Lets the model answer what the branch ends with. */
export async function goOn(session: OpenSession, speaker?: string): Promise<void> {
  const { mode, settings } = session.content.peek();
  await exclusively(session, async (signal) => {
    if (mode === "chat") return void (await answer(session, "assistant", signal));
    let next = speaker ?? (await chooseSpeaker(session, signal));
    for (let turn = 1; next !== null; turn++) {
      const finished = await answer(session, next, signal);
      if (!finished || turn >= settings.turns || speaker !== undefined) return;
      next = await chooseSpeaker(session, signal);
    }
  });
}

/** Another answer beside one that is there. */
export async function regenerate(session: OpenSession, block: SessionBlock): Promise<void> {
  session.update((content) => ({ ...content, leaf: block.parent }));
  await goOn(session, session.content.peek().mode === "voices" ? block.author : undefined);
}

/** Another wording of a message beside it, on a branch of its own, and the answer to it. */
export async function sayInstead(session: OpenSession, block: SessionBlock, text: string): Promise<void> {
  session.update((content) => ({ ...content, leaf: block.parent }));
  addBlock(session, block.author, text);
  await goOn(session);
}

/** Runs one piece of work in a session; what goes wrong is shown in the session. */
export async function exclusively(session: OpenSession, run: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const state = workOf(session);
  if (state.peek()) return;
  const controller = new AbortController();
  state.value = { live: null, doing: "reading", stop: () => controller.abort() };
  try {
    await run(controller.signal);
  } catch (error) {
    if (!controller.signal.aborted) failures.value = { session: session.id, message: (error as Error).message };
  } finally {
    state.value = null;
  }
}

/** Failures that belong to no block. */
export const failures = signal<{ readonly session: string; readonly message: string } | null>(null);

async function chooseSpeaker(session: OpenSession, signal: AbortSignal): Promise<string | null> {
  report(session, { doing: "choosing who speaks next" });
  const content = session.content.peek();
  const seen = await seenBlocks(session, branchOf(content));
  return nextSpeaker(content, transcript(content, seen.blocks, seen.withPrompt), branchOf(content).at(-1)?.author, signal);
}

/** Writes one block. @returns whether it came to its own end */
async function answer(session: OpenSession, author: string, signal: AbortSignal): Promise<boolean> {
  const branch = branchOf(session.content.peek());
  const seen = await seenBlocks(session, branch);
  const block = addBlock(session, author, "");
  report(session, { live: { block, text: "", probabilities: [] }, doing: "answering" });
  announceAnswer(author === "assistant" ? "The model" : author);
  const begun = performance.now();
  const received = receiver(session, block);
  try {
    const end = await request(session.content.peek(), author, seen, { signal, onPiece: received.piece });
    received.finish({ answer: { ...figures(end), finish: end.finish } });
    announceEnd(received.text(), "Answer finished.");
    return true;
  } catch (error) {
    const tokens = received.tokens();
    const seconds = (performance.now() - begun) / 1000;
    const partial = { tokens, tokensPerSecond: seconds > 0 ? tokens / seconds : 0, firstTokenMs: 0 };
    const stopped = signal.aborted;
    const reason = stopped
      ? { finish: "stopped" as const }
      : { finish: "failed" as const, error: (error as Error).message.slice(0, 2000) };
    received.finish({ answer: { ...partial, ...reason } });
    announceEnd(received.text(), stopped ? "Stopped." : "The answer failed.");
    return false;
  }
}

function request(
  content: SessionContent,
  author: string,
  seen: Awaited<ReturnType<typeof fitBranch>>,
  hooks: Pick<AnswerRequest, "signal" | "onPiece">,
): Promise<AnswerEnd> {
  const base = { model: page.peek()!.model, settings: content.settings, ...hooks };
  if (content.mode === "chat") return streamChat(chatMessages(content, seen.blocks, seen.withPrompt), { ...base, stop: [] });
  return streamText(`${transcript(content, seen.blocks, seen.withPrompt)}${author}:`, { ...base, stop: voiceStops(content) });
}

/** The newest state of a block that grows, shown at once and kept now and then. */
function receiver(session: OpenSession, block: string) {
  let text = "";
  const probabilities: TokenProbability[] = [];
  let kept = performance.now();
  const keep = (changes: Partial<SessionBlock>) => {
    const shown = { text: text.trim(), ...(probabilities.length > 0 ? { probabilities: [...probabilities] } : {}) };
    session.update((content) => change(content, block, { ...shown, ...changes }));
  };
  let timer: number | undefined;
  const show = () => {
    timer = undefined;
    report(session, { live: { block, text, probabilities: [...probabilities] } });
    announceEnd(text, null);
  };
  session.onLeave = () => keep({});
  return {
    text: () => text,
    tokens: () => probabilities.length,
    piece(piece: Piece) {
      text += piece.text;
      probabilities.push(...piece.probabilities);
      // Pieces may come faster than they can be drawn.
      timer ??= window.setTimeout(show, DRAW_EVERY_MS);
      if (performance.now() - kept < KEEP_EVERY_MS) return;
      kept = performance.now();
      keep({});
    },
    finish(changes: Partial<SessionBlock>) {
      session.onLeave = null;
      window.clearTimeout(timer);
      keep(changes);
      report(session, { live: null });
    },
  };
}

async function seenBlocks(session: OpenSession, branch: readonly SessionBlock[]) {
  const seen = await fitBranch(session.content.peek(), branch, page.peek()!.plan.context, counted);
  session.update((content) => (content.firstKept === seen.firstKept ? content : { ...content, firstKept: seen.firstKept }));
  return seen;
}

function addBlock(session: OpenSession, author: string, text: string): string {
  const id = newId();
  const block: SessionBlock = { id, parent: session.content.peek().leaf, author, text, created: new Date().toISOString() };
  session.update((content) => ({ ...append(content, block), title: content.title === "" ? titleFrom(text) : content.title }));
  return id;
}

function report(session: OpenSession, changes: Partial<Work>): void {
  const state = workOf(session);
  if (state.peek()) state.value = { ...state.peek()!, ...changes };
}

function figures({ tokens, tokensPerSecond, firstTokenMs }: AnswerEnd) {
  return { tokens, tokensPerSecond, firstTokenMs };
}
