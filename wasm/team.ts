// How worker threads meet. All state lies in a control block of shared memory, each word on a
// cache line of its own. Waiting spins first (a barrier then costs under a microsecond) and
// sleeps after that, so that a machine with fewer free cores than threads goes on.

const GENERATION: usize = 0;
const ARRIVED: usize = 64;
const COUNTER: usize = 128;
const SLEEPERS: usize = 192;
const COMMAND: usize = 256;
/** One word of 64 bits per thread, a line apart: what is left of its share of the present phase. */
const SHARES: usize = 512;
const SHARE_BYTES: usize = 64;

/** Makes a ticket of a generation, which may be 0. */
const TICKET: i32 = 1 << 31;

/** What a rest made, or the compiler would drop it. Globals are per instance. */
export let rested: f64 = 2;

/**
 * Some 30 ns in which this thread asks nothing of its core but its slowest unit: roots, each of the one
 * before. Cores often serve two threads at a time, and the one that is waited for works the faster; WebAssembly has
 * no instruction for it.
 */
// @ts-ignore: decorator
@inline
function rest(): void {
  rested = sqrt(sqrt(sqrt(sqrt(rested + 2))));
}

/**
 * Arrives where all `threads` meet. The last one to come resets the chunk counter and opens.
 *
 * @returns 0 to the last one; to the others a ticket, with which they wait (team_wait), and may
 *   look from time to time whether it is over while they do something useful (team_open)
 */
export function team_arrive(control: usize, threads: i32): i32 {
  const generation = atomic.load<i32>(control, GENERATION);
  if (atomic.add<i32>(control, 1, ARRIVED) + 1 < threads) return generation | TICKET;
  atomic.store<i32>(control, 0, ARRIVED);
  atomic.store<i32>(control, 0, COUNTER);
  atomic.store<i32>(control, (generation + 1) & ~TICKET, GENERATION);
  // A sleeper counts itself before it looks at the generation, so either it is seen here or it does not sleep.
  if (atomic.load<i32>(control, SLEEPERS) > 0) atomic.notify(control + GENERATION, -1);
  return 0;
}

/** 1 when all have come to the meeting of this ticket. */
export function team_open(control: usize, ticket: i32): i32 {
  return i32(atomic.load<i32>(control, GENERATION) != (ticket & ~TICKET));
}

/** Waits until all have come to the meeting of this ticket: looks `turns` times, then sleeps. */
export function team_wait(control: usize, ticket: i32, turns: i32): void {
  const generation = ticket & ~TICKET;
  for (let i = 0; i < turns; i++) {
    if (atomic.load<i32>(control, GENERATION) != generation) return;
    rest();
  }
  atomic.add<i32>(control, 1, SLEEPERS);
  while (atomic.load<i32>(control, GENERATION) == generation) atomic.wait<i32>(control + GENERATION, generation, -1);
  atomic.sub<i32>(control, 1, SLEEPERS);
}

/** Takes the next `count` items of the present phase and says which is the first of them. */
export function team_claim(control: usize, count: i32): i32 {
  return atomic.add<i32>(control, count, COUNTER);
}

/**
 * Takes up to `most` (< 64) of the present phase's `items`: the next ones of this thread's own share,
 * which it so reads as one stream (memory is a tenth to a fifth faster for it), or, when that is
 * empty, the last ones of another's, so that a thread that lost its core holds nobody up. Where what is taken from has
 * less than twice `most` left, only up to `least` are taken, so that all threads end at about the same time.
 *
 * @returns first << 6 | number; 0 when nothing is left
 */
export function team_take(control: usize, threads: i32, thread: i32, items: i32, most: i32, least: i32): i32 {
  const phase = <i64>(atomic.load<i32>(control, GENERATION) & 0xfffff) << 44;
  for (let i = 0; i < threads; i++) {
    const owner = (thread + i) % threads;
    const word = control + SHARES + <usize>owner * SHARE_BYTES;
    for (;;) {
      const seen = atomic.load<i64>(word);
      // A word of an earlier phase stands for the whole share: whoever comes first renews it.
      const begun = (seen ^ phase) >>> 44 == 0;
      const begin = begun ? <i32>(seen >> 22) & 0x3fffff : <i32>((<i64>items * owner) / threads);
      const end = begun ? <i32>seen & 0x3fffff : <i32>((<i64>items * (owner + 1)) / threads);
      if (begin >= end) break;
      const own = i == 0;
      const left = end - begin, count = left < most << 1 ? least : most;
      const taken = min(count, own ? left : (left + 1) >> 1);
      const renewed = phase | (<i64>(own ? begin + taken : begin) << 22) | <i64>(own ? end : end - taken);
      if (atomic.cmpxchg<i64>(word, seen, renewed) == seen) return ((own ? begin : end - taken) << 6) | taken;
    }
  }
  return 0;
}

/** Waits until the command word is no longer `last`, and returns it: looks `turns` times, then sleeps. */
export function team_await(control: usize, last: i32, turns: i32): i32 {
  for (let i = 0; i < turns; i++) {
    const command = atomic.load<i32>(control, COMMAND);
    if (command != last) return command;
    rest();
  }
  while (atomic.load<i32>(control, COMMAND) == last) atomic.wait<i32>(control + COMMAND, last, -1);
  return atomic.load<i32>(control, COMMAND);
}
