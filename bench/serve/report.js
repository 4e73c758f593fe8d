// What a load run came to.

/** @returns {number | null} of numbers in any order; `share` from 0 to 1 */
export function percentile(values, share) {
  if (values.length === 0) return null;
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)];
}

const spread = (values) => ({ p50: percentile(values, 0.5), p95: percentile(values, 0.95), p99: percentile(values, 0.99) });

/** @param {object[]} outcomes of load.js */
export function summarize(outcomes, seconds) {
  const errors = outcomes.filter(({ error }) => error !== null);
  const quick = outcomes.filter(({ slow, left, error }) => !slow && !left && error === null);
  const tokens = outcomes.reduce((sum, { ids }) => sum + ids.length, 0);
  return {
    requests: outcomes.length,
    complete: outcomes.filter(({ left, error }) => !left && error === null).length,
    left: outcomes.filter(({ left }) => left).length,
    slow: outcomes.filter(({ slow }) => slow).length,
    errors: errors.length,
    firstErrors: [...new Set(errors.map(({ error }) => error))].slice(0, 5),
    seconds,
    tokensPerSecond: tokens / seconds,
    promptTokensPerSecond:
      outcomes.reduce((sum, { promptTokens, ids }) => sum + (ids.length > 0 ? promptTokens : 0), 0) / seconds,
    firstTokenMs: spread(quick.map(({ firstMs }) => firstMs)),
    betweenTokensMs: spread(quick.flatMap(({ gapsMs }) => gapsMs)),
  };
}

const show = (value, digits = 1) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const mib = (bytes) => (bytes === undefined || bytes === null ? "–" : `${(bytes / 2 ** 20).toFixed(0)} MiB`);

/** One run as lines for people. */
export function describe(clients, run) {
  const { firstTokenMs: first, betweenTokensMs: between, memory } = run;
  const lines = [
    `${clients} clients, ${show(run.seconds)} s: ${run.requests} requests (${run.complete} complete, ${run.left} left by their client, ${run.slow} read slowly), ${run.errors} errors`,
    `  throughput        ${show(run.tokensPerSecond)} tokens/s, prompts ${show(run.promptTokensPerSecond)} tokens/s`,
    `  first token       p50 ${show(first.p50)}  p95 ${show(first.p95)}  p99 ${show(first.p99)} ms`,
    `  between tokens    p50 ${show(between.p50, 2)}  p95 ${show(between.p95, 2)}  p99 ${show(between.p99, 2)} ms`,
    `  server            event loop p99 ${show(run.eventLoopP99Ms, 2)} ms (timer of 5 ms included), pages free ${run.pagesFree} + kept for reuse ${run.pagesIdle} of ${run.pagesTotal}`,
  ];
  if (memory)
    lines.push(
      `  resident memory   server ${mib(memory.server.first)} → ${mib(memory.server.last)}, engine ${mib(memory.engine.first)} → ${mib(memory.engine.last)}`,
    );
  for (const error of run.firstErrors) lines.push(`  error: ${error}`);
  return lines.join("\n");
}
