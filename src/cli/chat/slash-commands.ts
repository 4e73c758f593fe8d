// What a line that begins with a slash does.

import type { UsageError } from "../../errors.js";
import type { AdapterChoice, GenerateOptions } from "../../index.js";
import { nearestName } from "../../sampling/nearest-name.js";
import { adapterChoice } from "../adapter-options.js";
import { decimal, wholeNumber } from "../flag-values.js";
import type { Conversation } from "./conversation.js";

/** What the chat does next. */
export type Next = "listen" | "answer" | "quit";

export interface ChatState {
  readonly conversation: Conversation;
  /** How answers are generated; `/set` changes it. */
  options: GenerateOptions;
  /** Names of the adapters that are loaded. */
  readonly adapters: readonly string[];
  /** The memory plan, for people. */
  readonly planText: () => string;
  readonly print: (text: string) => void;
}

interface SlashCommand {
  readonly usage: string;
  readonly about: string;
  readonly run: (state: ChatState, argument: string) => Next;
}

const SETTINGS: Readonly<Record<string, (text: string) => number>> = {
  temperature: decimal,
  topK: wholeNumber,
  topP: decimal,
  minP: decimal,
  typical: decimal,
  repetitionPenalty: decimal,
  penaltySustain: wholeNumber,
  penaltyDecay: wholeNumber,
  frequencyPenalty: decimal,
  presencePenalty: decimal,
  maxTokens: wholeNumber,
  seed: wholeNumber,
};

const COMMANDS: Readonly<Record<string, SlashCommand>> = {
  help: {
    usage: "/help",
    about: "this list",
    run: ({ print }) => {
      const width = Math.max(...Object.values(COMMANDS).map(({ usage }) => usage.length));
      for (const { usage, about } of Object.values(COMMANDS)) print(`${usage.padEnd(width)}  ${about}`);
      print("A line that ends in \\ goes on in the next. Ctrl-C stops an answer, a second one leaves.");
      return "listen";
    },
  },
  reset: {
    usage: "/reset",
    about: "forget the conversation; the system message stays",
    run: ({ conversation, print }) => {
      conversation.reset();
      print("a new conversation");
      return "listen";
    },
  },
  system: {
    usage: "/system [TEXT]",
    about: "set the system message and begin anew; without TEXT: show it, - takes it away",
    run: ({ conversation, print }, text) => {
      if (text === "") print(conversation.system ?? "(no system message)");
      else {
        conversation.system = text === "-" ? null : text;
        conversation.reset();
        print("a new conversation");
      }
      return "listen";
    },
  },
  undo: {
    usage: "/undo",
    about: "take the last question and its answer back",
    run: ({ conversation, print }) => {
      const question = conversation.undo();
      print(question === null ? "there is nothing to undo" : `taken back: ${question}`);
      return "listen";
    },
  },
  retry: {
    usage: "/retry",
    about: "answer the last question anew",
    run: ({ conversation, print }) => {
      const question = conversation.undo();
      if (question === null) {
        print("there is nothing to retry");
        return "listen";
      }
      conversation.ask(question);
      return "answer";
    },
  },
  set: {
    usage: "/set [NAME VALUE]",
    about: `change a setting: ${Object.keys(SETTINGS).map(flagName).join(", ")}; without: show them`,
    run: (state, text) => {
      set(state, text);
      return "listen";
    },
  },
  adapters: {
    usage: "/adapters [NAME[=WEIGHT] …]",
    about: "answer with these LoRA adapters; without: show them, - takes them away",
    run: (state, text) => {
      chooseAdapters(state, text);
      return "listen";
    },
  },
  plan: {
    usage: "/plan",
    about: "the memory plan",
    run: ({ print, planText }) => {
      print(planText());
      return "listen";
    },
  },
  quit: { usage: "/quit", about: "leave", run: () => "quit" },
};

const ALIASES: Readonly<Record<string, string>> = { exit: "quit", bye: "quit", "?": "help", clear: "reset" };

/** @param line begins with `/` */
export function runSlashCommand(state: ChatState, line: string): Next {
  const [, written = "", argument = ""] = /^\/(\S*)\s*(.*)$/s.exec(line) ?? [];
  const name = ALIASES[written] ?? written;
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command) return command.run(state, argument.trim());
  const nearest = nearestName(written, Object.keys(COMMANDS));
  state.print(`there is no /${written}; ${nearest ? `did you mean /${nearest}?` : "/help shows what there is"}`);
  return "listen";
}

function set(state: ChatState, text: string): void {
  if (text === "") {
    const said = Object.entries(state.options).filter(([name]) => Object.hasOwn(SETTINGS, name));
    state.print(
      said.length === 0
        ? "everything is as the model wants it"
        : said.map(([name, value]) => `${flagName(name)} ${String(value)}`).join("\n"),
    );
    return;
  }
  const [written = "", value = ""] = text.split(/[\s=]+/);
  const names = Object.keys(SETTINGS);
  const name = names.find((known) => known === written || flagName(known) === written.replaceAll("_", "-"));
  if (!name) {
    const nearest = nearestName(written, names);
    state.print(`there is no setting ${written}${nearest ? `; did you mean ${flagName(nearest)}?` : ""}`);
    return;
  }
  try {
    state.options = { ...state.options, [name]: SETTINGS[name]!(value) };
    state.print(`${flagName(name)} ${value}`);
  } catch (error) {
    state.print(`${flagName(name)} cannot be ${JSON.stringify(value)}: ${(error as UsageError).message}`);
  }
}

function chooseAdapters(state: ChatState, text: string): void {
  const { adapters: _, ...options } = state.options;
  if (state.adapters.length === 0) {
    state.print("no adapter is loaded; --adapter name=folder loads one");
    return;
  }
  try {
    const choices = text.split(/\s+/).filter((word) => word !== "" && word !== "-");
    const adapters = choices.reduce<AdapterChoice[] | undefined>((before, word) => adapterChoice(word, before), undefined);
    const unknown = adapters?.find(({ name }) => !state.adapters.includes(name));
    if (unknown) {
      state.print(`there is no adapter ${unknown.name}; loaded are ${state.adapters.join(", ")}`);
      return;
    }
    if (text !== "") state.options = adapters ? { ...options, adapters } : options;
  } catch (error) {
    state.print((error as Error).message);
    return;
  }
  const used = (state.options.adapters ?? []).map(({ name, weight = 1 }) => `${name} ${weight}`);
  state.print(used.length > 0 ? used.join("\n") : `none in use; loaded are ${state.adapters.join(", ")}`);
}

function flagName(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
