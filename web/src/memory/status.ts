// The server's figures, asked for every two seconds while somebody looks.

import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { PageStatus } from "../../../src/server/page/api.js";
import type { LiveSample } from "../../../src/server/page/live-figures.js";
import { getJson } from "../server/http.js";

const EVERY_MS = 2000;
const KEPT = 450;

/** A quarter of an hour at most, oldest first. */
export const samples = signal<readonly LiveSample[]>([]);
export const latest = signal<LiveSample | null>(null);

export function useStatus(): void {
  useEffect(() => {
    let timer = 0;
    let over = false;
    const ask = async () => {
      if (!document.hidden) await look().catch(() => {}); // asked again in a moment
      if (!over) timer = window.setTimeout(() => void ask(), EVERY_MS);
    };
    void ask();
    return () => {
      over = true;
      window.clearTimeout(timer);
    };
  }, []);
}

async function look(): Promise<void> {
  const since = samples.peek().at(-1)?.time ?? 0;
  const status = await getJson<PageStatus>(`/api/status?since=${since}`);
  samples.value = [...samples.peek(), ...status.samples].slice(-KEPT);
  latest.value = status.now;
}

/** What happened between samples, per second or on average; counters that began anew count from 0. */
export function ratesOf(all: readonly LiveSample[]) {
  const pairs = all.slice(1).map((now, index) => ({ before: all[index]!, now }));
  const grown = (before: number, now: number) => Math.max(0, now - before);
  const perSecond = (pick: (sample: LiveSample) => number) =>
    pairs.map(({ before, now }) => (1000 * grown(pick(before), pick(now))) / Math.max(1, now.time - before.time));
  /** `null` where nothing was measured. */
  const average = (pick: (sample: LiveSample) => LiveSample["firstToken"]) =>
    pairs.map(({ before, now }) => {
      const count = grown(pick(before).count, pick(now).count);
      return count === 0 ? null : (1000 * grown(pick(before).seconds, pick(now).seconds)) / count;
    });
  return {
    times: pairs.map(({ now }) => now.time / 1000),
    generated: perSecond(({ generatedTokens }) => generatedTokens),
    prompt: perSecond(({ promptTokens }) => promptTokens),
    running: pairs.map(({ now }) => now.running),
    waiting: pairs.map(({ now }) => now.waiting),
    firstTokenMs: average(({ firstToken }) => firstToken),
    betweenTokensMs: average(({ betweenTokens }) => betweenTokens),
  };
}
