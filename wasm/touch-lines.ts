/** What was read, or the compiler would drop the loads. Globals are per instance. */
export let touched: u32 = 0;

/** Reads a word of every line of memory that is about to be used: src/backend/cpu/next-weights.ts. */
export function touch_lines(from: usize, bytes: usize): void {
  let sink: u32 = 0;
  for (let at = from; at < from + bytes; at += 64) sink |= load<u32>(at);
  touched = sink;
}
