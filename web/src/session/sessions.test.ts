import { afterEach, expect, it, vi } from "vitest";
import { refresh, summaries } from "./sessions.js";

afterEach(() => vi.unstubAllGlobals());

it("shows the list that was asked for last, whichever comes last", async () => {
  const answers: ((titles: readonly string[]) => void)[] = [];
  vi.stubGlobal("localStorage", { getItem: () => null });
  vi.stubGlobal("fetch", () => {
    return new Promise<Response>((resolve) => {
      answers.push((titles) => resolve(Response.json({ sessions: titles.map((title) => ({ title })), problems: [] })));
    });
  });
  const readings = [refresh(), refresh()];
  answers[1]!(["new title"]);
  await readings[1];
  answers[0]!(["old title"]);
  await readings[0];
  expect(summaries.value?.map(({ title }) => title)).toEqual(["new title"]);
});
