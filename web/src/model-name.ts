/** What a checkpoint's folder or address is called, without the way to it. */
export function modelName(source: string): string {
  return source.split(/[\\/]/).filter(Boolean).at(-1) ?? source;
}
