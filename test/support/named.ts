// Rows for it.each() and describe.each() whose title is "%s": the name stands in the title as it is.

export function named<T extends { readonly name: string }>(items: readonly T[]): [name: string, item: T][] {
  return items.map((item) => [item.name, item]);
}
