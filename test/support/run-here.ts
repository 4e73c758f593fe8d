// Runs the command line within the test's process, by the function that main.ts calls: a process of
// its own takes a quarter of a second before it does anything. For what is refused, planned or
// read; streams, signals, pipes and whole answers are for run-cli.ts.

import { runProgram } from "../../src/cli/program.js";
import { type CliResult, cleanEnvironment } from "./run-cli.js";

/** @param args as typed after `exllama`; one call at a time, for output and environment are the process's */
export async function runHere(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<CliResult> {
  const before = { env: { ...process.env }, exitCode: process.exitCode };
  const [stdout, stderr] = [new Captured(process.stdout), new Captured(process.stderr)];
  replaceEnvironment({ ...cleanEnvironment, ...env });
  process.exitCode = undefined;
  try {
    const code = await runProgram(args);
    return { code, signal: null, stdout: stdout.text, stderr: stderr.text };
  } finally {
    stdout.release();
    stderr.release();
    process.exitCode = before.exitCode;
    replaceEnvironment(before.env);
  }
}

/** What is written to a stream, instead of writing it. */
class Captured {
  text = "";
  readonly #stream: NodeJS.WriteStream;
  readonly #write: NodeJS.WriteStream["write"];

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
    this.#write = stream.write;
    stream.write = (chunk: string | Uint8Array) => {
      this.text += typeof chunk === "string" ? chunk : new TextDecoder().decode(chunk);
      return true;
    };
  }

  release(): void {
    this.#stream.write = this.#write;
  }
}

function replaceEnvironment(env: Readonly<Record<string, string | undefined>>): void {
  for (const name of Object.keys(process.env)) if (!(name in env)) delete process.env[name];
  for (const [name, value] of Object.entries(env)) if (value !== undefined) process.env[name] = value;
}
