// Runs the built command line as a user would, in a process of its own. What only refuses or plans
// is quicker asked in this one: run-here.ts.

import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { distFile } from "../../src/paths.js";

export interface CliResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CliOptions {
  readonly stdin?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Called once, at the first output on that stream: to send signals, to close pipes. */
  readonly onStdout?: (child: ChildProcessWithoutNullStreams) => void;
  readonly onStderr?: (child: ChildProcessWithoutNullStreams) => void;
}

/** No settings of the person who runs the tests. */
const CLEAN = Object.fromEntries(
  Object.entries(process.env).filter(
    ([name]) => !name.startsWith("EXLLAMA_") && !name.startsWith("XDG_") && name !== "FORCE_COLOR",
  ),
);

/** Files of tests run side by side: one core each. Whatever the number of threads, bits are the same. */
const ONE_THREAD = { EXLLAMA_THREADS: "1" };

/** What commands keep (sessions, a chat's history) goes with the tests. */
const STATE = mkdtempSync(join(tmpdir(), "exllama-state-"));
process.once("exit", () => rmSync(STATE, { recursive: true, force: true }));

/** What commands see of the environment unless told otherwise. */
export const cleanEnvironment: Readonly<Record<string, string | undefined>> = {
  ...CLEAN,
  ...ONE_THREAD,
  XDG_CONFIG_HOME: "/nonexistent",
  XDG_STATE_HOME: STATE,
};

/** @param args as typed after `exllama` */
export function runCli(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  const child = spawn(process.execPath, [distFile("cli/main.js"), ...args], {
    env: { ...cleanEnvironment, ...options.env },
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    if (stdout === "") options.onStdout?.(child);
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    if (stderr === "") options.onStderr?.(child);
    stderr += text;
  });
  child.stdin.on("error", () => {});
  child.stdin.end(options.stdin ?? "");
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}

/** Standard output as the one JSON line that it has to be. */
export function jsonOf<T = Record<string, unknown>>({ stdout, stderr }: CliResult): T {
  const lines = stdout.trimEnd().split("\n");
  if (lines.length !== 1 || !stdout.endsWith("\n")) throw new Error(`not one line: ${JSON.stringify(stdout)}\n${stderr}`);
  return JSON.parse(lines[0]!) as T;
}
