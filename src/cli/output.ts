// Standard output: results and nothing else.

import { styleFor } from "./style.js";

/** One line of JSON. */
export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** A line for people that is no result. */
export function note(text: string): void {
  process.stderr.write(`${styleFor(process.stderr).dim(text)}\n`);
}

/** `exllama … | head` closes the pipe when it has seen enough; that is no failure. */
export function exitQuietlyOnClosedPipe(): void {
  for (const stream of [process.stdout, process.stderr])
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EPIPE") process.exit(0);
      throw error;
    });
}

/** Name and value in two columns. */
export function printTable(rows: readonly (readonly [name: string, value: string])[]): void {
  const width = Math.max(...rows.map(([name]) => name.length));
  const style = styleFor(process.stdout);
  for (const [name, value] of rows) process.stdout.write(`${style.dim(name.padEnd(width))}  ${value}\n`);
}

/** 5757 → `5,757`. */
export function grouped(value: number): string {
  return value.toLocaleString("en-US");
}

export function seconds(milliseconds: number): string {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}
