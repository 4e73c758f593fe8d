// A room with several bots, as in a Discord channel: people write, and the model decides who
// answers, by choosing one of the names and nothing else, then writes that bot's line. What
// lies in the KV cache of the room so far is reused from line to line.
//
//   node examples/multibot.js [folder of a model]
//
// In a real bot `receive` is called from the client's message event, and `say` sends a message.

import { loadModel } from "exllama-ts";

const bots = ["Ann", "Bob", "Kit"];
const room = `This is a talk between ${bots.join(", ")} and their friends. They like stories about animals.\n`;
const lines = [];
const MOST_LINES = 40;

const model = await loadModel(process.argv[2]);

function say(speaker, text) {
  lines.push(`${speaker}: ${text}`);
  if (lines.length > MOST_LINES) lines.shift(); // the room's description stays, its oldest line goes
  console.log(lines.at(-1));
}

/** The room up to now, ready for the next line. */
const transcript = () => `${room}${lines.join("\n")}\n`;

async function receive(person, text, answers = 2) {
  say(person, text);
  for (let i = 0; i < answers; i++) {
    const others = bots.filter((name) => !lines.at(-1).startsWith(`${name}:`));
    const choices = others.map((name) => `${name}:`);
    const { text: next } = await model.generate(transcript(), { constraint: { kind: "choice", choices }, seed: lines.length })
      .result;
    const speaker = next.slice(0, -1);
    const everybody = [...bots, person].map((name) => `${name}:`);
    const line = await model.generate(`${transcript()}${next}`, { maxTokens: 24, stop: ["\n", ...everybody], seed: lines.length })
      .result;
    say(speaker, line.text.trim() || "…");
  }
}

await receive("Mia", "Who knows a story about a cat?");
await receive("Tom", "And what happened then?");

await model.dispose();
