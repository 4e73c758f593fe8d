// Colours, where a person is looking and has not said no: https://no-color.org.

export interface Style {
  readonly dim: (text: string) => string;
  readonly bad: (text: string) => string;
  readonly accent: (text: string) => string;
}

/** Whether colours are wanted there. */
export function isColored(stream: NodeJS.WriteStream): boolean {
  return stream.isTTY === true && !process.env.NO_COLOR && process.env.TERM !== "dumb";
}

export function styleFor(stream: NodeJS.WriteStream): Style {
  const on = isColored(stream);
  const paint = (begin: number, end: number) => (text: string) => (on ? `\x1b[${begin}m${text}\x1b[${end}m` : text);
  return { dim: paint(2, 22), bad: paint(31, 39), accent: paint(36, 39) };
}
