import { describe, expect, it } from "vitest";
import { Conversation } from "./conversation.js";
import { type ChatState, runSlashCommand } from "./slash-commands.js";

function chat(adapters: readonly string[]) {
  const printed: string[] = [];
  const state: ChatState = {
    conversation: new Conversation(null),
    options: { temperature: 0 },
    adapters,
    planText: () => "",
    print: (text) => void printed.push(text),
  };
  const say = (line: string): string => {
    printed.length = 0;
    expect(runSlashCommand(state, line)).toBe("listen");
    return printed.join("\n");
  };
  return { state, say };
}

describe("/adapters", () => {
  it("chooses, shows and takes away", () => {
    const { state, say } = chat(["pirate", "brief"]);
    expect(say("/adapters")).toBe("none in use; loaded are pirate, brief");
    expect(say("/adapters pirate=0.7 brief")).toBe("pirate 0.7\nbrief 1");
    expect(state.options).toEqual({ temperature: 0, adapters: [{ name: "pirate", weight: 0.7 }, { name: "brief" }] });
    expect(say("/adapters")).toBe("pirate 0.7\nbrief 1");
    expect(say("/adapters -")).toMatch(/none in use/);
    expect(state.options).toEqual({ temperature: 0 });
  });

  it.each([
    ["another name", "/adapters pirates", /no adapter pirates/],
    ["a weight that is none", "/adapters pirate=much", /not a number/],
  ])("leaves everything as it is for %s", (_, line, message) => {
    const { state, say } = chat(["pirate"]);
    say("/adapters pirate=0.5");
    expect(say(line)).toMatch(message);
    expect(state.options.adapters).toEqual([{ name: "pirate", weight: 0.5 }]);
  });

  it("says how to load one", () => {
    expect(chat([]).say("/adapters pirate")).toMatch(/--adapter name=folder/);
  });
});
