// Working memory of a matrix product: unpacked codes of one block and the sums of a chunk of
// tokens. Any number of threads may work from one activation buffer, and none of them has a
// number of its own, so the buffer begins with locks for 64 slots; a call takes a free one.
// src/backend/cpu/quantized-layout.ts has the same numbers.

const SLOTS: i32 = 64;
const SLOT_BYTES: usize = 4288;

/** Offset of the activations in their buffer. */
export const SLOT_AREA: usize = <usize>SLOTS * 4 + <usize>SLOTS * SLOT_BYTES;

/** Tokens whose sums fit into a slot; one more row of sums takes what an odd last token leaves over. */
export const CHUNK: i32 = 32;
/** Offsets inside a slot. */
export const UNPACKED: usize = 0; // [128 / 4 lines of 64 bytes]
export const SCALES: usize = 2048; // [16] f32
export const ZEROS: usize = 2048 + 64; // [16] i32
export const SUMS: usize = 2048 + 128; // [CHUNK + 1, 16] f32

/** The slot this thread had last: its lines are likely still in this core's cache. Globals are per instance. */
let last: i32 = 0;

/** Clears the locks. Only while nobody computes from this buffer. */
export function quantized_reset_slots(buffer: usize): void {
  memory.fill(buffer, 0, <usize>SLOTS * 4);
}

/** Offset of a slot that is this thread's until `releaseSlot`. */
export function claimSlot(buffer: usize): usize {
  let slot = last;
  while (atomic.xchg<i32>(buffer + (<usize>slot << 2), 1) != 0) slot = (slot + 1) & (SLOTS - 1);
  last = slot;
  return buffer + <usize>SLOTS * 4 + <usize>slot * SLOT_BYTES;
}

export function releaseSlot(buffer: usize): void {
  atomic.store<i32>(buffer + (<usize>last << 2), 0);
}
