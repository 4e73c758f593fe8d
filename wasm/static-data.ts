/** First byte behind the module's own data; arenas keep 64 KiB for it (checked when building). */
export function static_end(): usize {
  return __heap_base;
}
