// Random bytes by the gigabyte: xorshift32 over whole words, repeatable.

let state = 0x2545f491;

function nextWord() {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return state;
}

/** Fills a buffer whose length is a multiple of 4. */
export function randomBytes(length) {
  const words = new Int32Array(length / 4);
  for (let i = 0; i < words.length; i++) words[i] = nextWord();
  return Buffer.from(words.buffer);
}

/** Little-endian half-precision numbers, all of them this value's bits with random low mantissa bits. */
export function halvesNear(bits, count) {
  const halves = new Uint16Array(count);
  for (let i = 0; i < count; i++) halves[i] = bits | (nextWord() & 0xff);
  return Buffer.from(halves.buffer);
}

/** Half-precision numbers of both signs, uniform in size over about 2^-8 … 2^-4. */
export function smallHalves(count) {
  const halves = new Uint16Array(count);
  for (let i = 0; i < count; i++) {
    const word = nextWord();
    halves[i] = (word & 0x8000) | ((7 + ((word >>> 16) & 3)) << 10) | (word & 0x3ff);
  }
  return Buffer.from(halves.buffer);
}
