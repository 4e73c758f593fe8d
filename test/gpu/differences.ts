// Numbers to compute with, and how far results are from each other.

/** Spread evenly around zero. */
export function noise(length: number, deviation = 1): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length }, () => deviation * 2 * Math.sqrt(3) * (Math.random() - 0.5));
}

/** Mean and greatest difference, of the deviation of `truth`. */
export function differenceOf(values: Float32Array, truth: Float32Array): [mean: number, worst: number] {
  let [sum, worst, squares] = [0, 0, 0];
  values.forEach((value, i) => {
    const difference = Math.abs(value - truth[i]!);
    sum += difference;
    if (!(difference <= worst)) worst = difference; // so that NaN ends up in it
    squares += truth[i]! ** 2;
  });
  const deviation = Math.sqrt(squares / truth.length);
  return [sum / truth.length / deviation, worst / deviation];
}
