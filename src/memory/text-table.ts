// Aligned columns, and text that keeps within a width.

/** One column: its heading and a cell for each row. */
export interface Column {
  readonly heading: string;
  readonly cells: readonly string[];
  /** Numbers are aligned to the right. */
  readonly right?: boolean;
}

/** Lines of a table: the headings, then the rows; two spaces between columns. */
export function tableLines(columns: readonly Column[]): string[] {
  const rows = Math.max(...columns.map(({ cells }) => cells.length));
  const widths = columns.map(columnWidth);
  const line = (texts: readonly string[]) =>
    texts
      .map((text, n) => (columns[n]!.right ? text.padStart(widths[n]!) : text.padEnd(widths[n]!)))
      .join("  ")
      .trimEnd();
  const headings = line(columns.map(({ heading }) => heading));
  return [headings, ...Array.from({ length: rows }, (_, row) => line(columns.map(({ cells }) => cells[row] ?? "")))];
}

export function tableWidth(columns: readonly Column[]): number {
  return columns.reduce((sum, column) => sum + columnWidth(column) + 2, -2);
}

function columnWidth({ heading, cells }: Column): number {
  return Math.max(heading.length, ...cells.map((cell) => cell.length));
}

/** Words in lines of at most `width`; lines after the first begin with `indent`. A word longer than a line stands alone. */
export function wrap(text: string, width: number, indent = ""): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line.trim() !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = indent + word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line];
}
