// Reading ahead without a prefetch instruction. The products of a line wait in the processor's
// small scheduler until the line has come, so only few lines would be on their way at a time.
// A load that nothing waits for does not: every body also loads a word of lines that later
// bodies need. Measured: one token's linears go from 65 to 79 % of plain reading's speed.
// (Whole records ahead at once, or every second line, is worse.)

/**
 * Bytes from a body's last line to the furthest word it reads ahead; anything from 400 to 1,000
 * is as fast. src/backend/cpu/quantized-layout.ts reserves as much behind a linear's tiles.
 */
export const READ_AHEAD: usize = 640;

/** What was read, or the compiler would drop the loads. Globals are per instance. */
export let touched: u32 = 0;

// @ts-ignore: decorator
@inline
export function keepTouched(sink: u32): void {
  touched = sink;
}

/**
 * Reads a word of every line of memory that is about to be written. One token's outputs are a line
 * for every tile, long out of the caches since they were written last; asked for one by one,
 * between reads of weights, they cost a tenth of the speed. Asked for together they cost nothing.
 */
export function touch_lines(from: usize, bytes: usize): void {
  let sink: u32 = 0;
  for (let at = from; at < from + bytes; at += 64) sink |= load<u32>(at);
  keepTouched(sink);
}
