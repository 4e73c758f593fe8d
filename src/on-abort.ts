// Many that wait for one AbortSignal, as one listener of it: a caller may give a hundred requests the
// same signal, and from the eleventh listener on Node.js warns of a leak that is none.

const waiting = new WeakMap<AbortSignal, { readonly heard: Set<() => void>; readonly listener: () => void }>();

/**
 * Calls `heard` when the signal is aborted, once; not if it is aborted already.
 *
 * @returns ends it; to be called when the signal matters no more, so that a signal that lives long keeps nothing alive
 */
export function onAbort(signal: AbortSignal | undefined, heard: () => void): () => void {
  if (!signal || signal.aborted) return () => {};
  const ours = (): void => heard(); // the same function may wait twice
  const { heard: all, listener } = waiting.get(signal) ?? listen(signal);
  all.add(ours);
  return () => {
    if (!all.delete(ours) || all.size > 0) return;
    signal.removeEventListener("abort", listener);
    waiting.delete(signal);
  };
}

function listen(signal: AbortSignal): { readonly heard: Set<() => void>; readonly listener: () => void } {
  const heard = new Set<() => void>();
  const listener = (): void => {
    waiting.delete(signal);
    const all = [...heard];
    heard.clear();
    for (const each of all) each();
  };
  signal.addEventListener("abort", listener, { once: true });
  const fresh = { heard, listener };
  waiting.set(signal, fresh);
  return fresh;
}
