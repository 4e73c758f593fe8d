// exllama chat: a conversation in the terminal. From a pipe it reads one message per line.

import type { Command } from "commander";
import { ChatTemplateError, EngineDiedError, ExllamaError, type GenerateOptions, type Model } from "../../index.js";
import { explainPlan } from "../../memory/explain.js";
import { type AnswerFlags, addAnswerOptions, answerOptionsOf } from "../answer-options.js";
import { Conversation } from "../chat/conversation.js";
import { InterruptControl } from "../chat/interrupt-control.js";
import { LineReader } from "../chat/lines.js";
import { type ChatState, runSlashCommand } from "../chat/slash-commands.js";
import { INTERRUPTED_EXIT, reportFailure } from "../failure.js";
import { InterruptedError } from "../interrupt.js";
import { addAnsweringOptions, type LoadFlags, withModel } from "../load-options.js";
import { grouped, note, printJson } from "../output.js";
import { applySettings } from "../settings.js";
import { isColored, styleFor } from "../style.js";
import { answerJson, speedLine } from "./generate.js";

interface Flags extends LoadFlags, AnswerFlags {
  system?: string;
  json?: boolean;
}

const EXAMPLES = `
Inside: /help lists commands, Ctrl-C stops an answer, a second one leaves, so does Ctrl-D.

Examples:
  exllama chat
  exllama chat --model ./llama-7b-chat --system "You answer in one sentence."
  echo "What is the opposite of hot?" | exllama chat --temperature 0`;

export function addChat(program: Command): void {
  const command = program.command("chat").description("talk to a model").addHelpText("after", EXAMPLES);
  command
    .option("--system <text>", "a system message in front of the conversation")
    .option("--json", "print each answer as one JSON line");
  addAnsweringOptions(addAnswerOptions(command));
  command.action(async () => {
    applySettings(command);
    await chat(command.opts<Flags>());
  });
}

async function chat(flags: Flags): Promise<void> {
  const control = new InterruptControl();
  // It listens to the end: a second Ctrl-C while the program is leaving must not change how it ends.
  process.on("SIGINT", control.press);
  const left = await withModel(flags, control.loading, async (model) => {
    if (!model.info.hasChatTemplate)
      throw new ChatTemplateError(`${model.info.source} has no chat template, so it cannot chat`, {
        hint: "exllama generate works without one; or put a chat_template.jinja into the model's folder.",
      });
    return converse(model, flags, control);
  });
  if (left === "interrupted") process.exitCode = INTERRUPTED_EXIT;
}

async function converse(model: Model, flags: Flags, control: InterruptControl): Promise<"done" | "interrupted"> {
  control.answered();
  const lines = new LineReader(process.stdin, process.stdout, control.press);
  control.onLeave = () => lines.close();
  control.onFirst = () => {
    if (lines.interactive) note("\n(Ctrl-C again or /quit leaves)");
  };
  const state: ChatState = {
    conversation: new Conversation(flags.system ?? null),
    options: answerOptionsOf(flags),
    adapters: model.info.adapters.map(({ name }) => name),
    planText: () =>
      explainPlan(model.plan, { width: Math.max(60, process.stderr.columns ?? 100), color: isColored(process.stderr) }),
    print: (text) => void process.stderr.write(`${text}\n`),
  };
  if (lines.interactive)
    note(`${model.info.source}: ${model.info.quantization}, context ${grouped(model.plan.context)}. /help shows what there is.`);
  try {
    for (;;) {
      const line = await lines.next(styleFor(process.stdout).accent("› "));
      if (control.left) return "interrupted";
      if (line === null) return "done";
      control.rearm();
      if (line.trim() === "") continue;
      let next: ReturnType<typeof runSlashCommand> = "answer";
      if (line.startsWith("/")) next = runSlashCommand(state, line);
      else state.conversation.ask(line);
      if (next === "quit") return "done";
      if (next === "answer") {
        const stopped = await answer(model, state, flags, control, lines.interactive);
        // What waited in a pipe was meant to follow an answer that now does not come.
        if (stopped && lines.discard() === "ended") return "interrupted";
      }
      if (control.left) return "interrupted";
    }
  } finally {
    lines.close();
  }
}

/**
 * A failed answer takes its question back and the chat goes on; from a pipe it ends the program.
 *
 * @returns whether Ctrl-C stopped it
 */
async function answer(
  model: Model,
  state: ChatState,
  flags: Flags,
  control: InterruptControl,
  interactive: boolean,
): Promise<boolean> {
  const { conversation } = state;
  let text = "";
  let stopped = false;
  try {
    const { messages, leftOut } = await conversation.messages(model);
    if (leftOut > 0)
      note(
        `(the ${leftOut === 1 ? "oldest turn does" : `oldest ${leftOut} turns do`} not fit the context any more and ${leftOut === 1 ? "is" : "are"} left out)`,
      );
    const options: GenerateOptions = { ...state.options, signal: control.answering() };
    const generation = model.chat(messages, options);
    for await (const piece of generation) {
      text += piece;
      if (!flags.json) process.stdout.write(piece);
    }
    const result = await generation.result;
    if (flags.json) printJson(answerJson(result));
    else finishLine(text, interactive ? speedLine(result) : null);
  } catch (error) {
    if (error instanceof InterruptedError) {
      stopped = true;
      if (flags.json) printJson({ text, finishReason: "interrupted" });
      else finishLine(text, interactive ? "(stopped)" : null);
    } else {
      conversation.undo();
      if (!interactive || !(error instanceof ExllamaError) || error instanceof EngineDiedError) throw error;
      reportFailure(error, { json: false });
      return false;
    }
  } finally {
    control.answered();
  }
  conversation.answer(text);
  return stopped;
}

function finishLine(text: string, remark: string | null): void {
  if (!text.endsWith("\n")) process.stdout.write("\n");
  if (remark !== null) note(remark);
}
