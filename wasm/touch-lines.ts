/** What was read, or the compiler would drop the loads. Globals are per instance. */
export let touched: u32 = 0;

/**
 * Reads a word of every line of memory that is about to be used. One token's outputs are a line for
 * every tile, long out of the caches since they were written last; asked for one by one, between
 * reads of weights, they cost a tenth of the speed. Asked for together they cost nothing.
 */
export function touch_lines(from: usize, bytes: usize): void {
  let sink: u32 = 0;
  for (let at = from; at < from + bytes; at += 64) sink |= load<u32>(at);
  touched = sink;
}
