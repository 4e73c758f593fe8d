// Repeatable choices: the same load from the same seed.

/** @returns {() => number} from 0 to below 1 */
export function randomNumbers(seed) {
  let state = (seed + 1) * 0x9e3779b9;
  return () => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 12), 0x297a2d39);
    x ^= x >>> 15;
    return (x >>> 0) / 2 ** 32;
  };
}

export function pick(list, random) {
  return list[Math.floor(random() * list.length)];
}
