/**
 * One of the parts that threads make of a row: columns from … to − 1, empty where there are more parts than units.
 *
 * @param unit columns that stay together; float kernels want fours at least
 */
export function partOfRow(size: number, unit: number, parts: number, part: number): { from: number; to: number } {
  const step = Math.max(4, unit);
  const units = Math.ceil(size / step);
  const begin = (index: number) => Math.min(size, Math.floor((units * index) / parts) * step);
  return { from: begin(part), to: begin(part + 1) };
}
