// How often a compute thread looks for what it waits for before it sleeps. Looking takes a core:
// where every thread has one of its own it costs nobody anything and saves a wake-up; where threads
// are more than cores, it keeps the very thread from running that is waited for.

/**
 * At a meeting of the team: 300 to 400 µs. A wake-up costs about 100 µs, and whoever is woken comes
 * late to the next meeting, where the others have gone to sleep in turn: with fewer turns two
 * threads can go on so, a sleep at every meeting, at half the speed.
 */
const MEETING = 12_000;

/** Between two steps: 2 to 4 ms. */
const BETWEEN_STEPS = 100_000;

/** In a team larger than the machine, some microseconds: enough where the last one is already on its way. */
const CROWDED = 100;

/** Turns at a meeting of `threads` on `cores`. */
export function meetingTurns(threads: number, cores: number): number {
  return threads > cores ? CROWDED : MEETING;
}

/**
 * Turns between two steps. Where the team has all cores, the thread that reports a step (`index` 0) makes
 * room at once: the host has sampling to do, and would otherwise wait half a millisecond until the
 * system takes a core from somebody who only looks.
 */
export function turnsBetweenSteps(threads: number, cores: number, index: number): number {
  if (threads > cores) return CROWDED;
  return index === 0 && threads === cores ? 0 : BETWEEN_STEPS;
}
