// How much there is in a JSON value: what a schema has to look at one by one. Numbers in lists are not
// counted: ids are checked quickly, however many.

/** @returns whether there are more than `most` objects, keys, lists and texts in lists */
export function hasMoreValues(value: unknown, most: number): boolean {
  const open: unknown[] = [value];
  let count = 0;
  while (open.length > 0) {
    const one = open.pop();
    if (typeof one !== "object" || one === null) continue;
    const isList = Array.isArray(one);
    const inside: readonly unknown[] = isList ? one : Object.values(one);
    count += isList ? 1 : 1 + inside.length;
    for (const item of inside) {
      if (typeof item === "object" && item !== null) open.push(item);
      else if (isList && typeof item !== "number") count += 1;
    }
    if (count + open.length > most) return true;
  }
  return false;
}
