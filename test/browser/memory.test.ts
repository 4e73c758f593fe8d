// The memory page: the plan as loaded, what is really used, and other plans made in the browser.

import type { Page } from "playwright-core";
import { afterAll, describe, expect } from "vitest";
import { plan } from "../../src/index.js";
import type { Plan } from "../../src/memory/plan.js";
import { formatBytes } from "../../src/memory/size.js";
import { it, type Site, START_MS, startSite } from "./harness.js";

const FLAGS = ["--cpu-memory", "400MiB", "--ctx", "2048", "--max-sequences", "2", "--cache-tokens", "4096"];

let site: Site;
it.beforeAll(async ({ started }) => {
  site = await startSite(started, FLAGS);
}, START_MS);
afterAll(() => site?.close());

async function openMemory(): Promise<Page> {
  const page = await site.open("/#/memory");
  await page.getByRole("heading", { name: "Memory", level: 1 }).waitFor();
  return page;
}

const device = (page: Page) => page.getByRole("region", { name: "Device cpu" });

/** The same plan by the library: what the page shows is what the planner says. */
const planned = (changes: object): Promise<Plan> =>
  plan(undefined, {
    ...{ backend: "cpu" as const, cpuMemory: "400MiB", ctx: 2048, maxSequences: 2, cacheTokens: 4096 },
    ...changes,
  });

describe("the memory page", () => {
  it("draws each part of the plan and what is used now", async () => {
    const page = await openMemory();
    const { devices } = await planned({});
    const text = await device(page).innerText();
    for (const bytes of [devices[0]!.weights, devices[0]!.kvCache, devices[0]!.scratch, devices[0]!.total])
      expect(text).toContain(formatBytes(bytes));
    await device(page)
      .getByText(/^now \d/)
      .waitFor();
    expect(await page.getByText(/of 16 cache pages hold tokens/).count()).toBe(1);
  });

  it("plans anew at each move of a slider, and says the command line that does it", async () => {
    const page = await openMemory();
    const requests: string[] = [];
    page.on("request", (request) => requests.push(request.url()));
    await page.getByRole("slider", { name: "Context" }).fill("512");
    await page.getByRole("slider", { name: "Cache, all sequences together" }).fill("1024");
    await page.getByRole("slider", { name: "Sequences at once" }).fill("4");
    const { devices } = await planned({ ctx: 512, cacheTokens: 1024, maxSequences: 4 });
    await page.getByText("Fits.").waitFor();
    expect(await device(page).locator(".device-total").innerText()).toContain(formatBytes(devices[0]!.total));
    expect(await page.locator(".command code").innerText()).toMatch(
      /^exllama serve .*--ctx 512 --cache f16 --cache-tokens 1024 --max-sequences 4 --prefill-chunk 256 --cpu-memory 400MiB$/,
    );
    expect(requests.filter((url) => !url.includes("/api/status"))).toEqual([]);
    await page.getByRole("button", { name: "back to what is loaded" }).click();
    await page.getByText("The plan, and what is used").waitFor();
  });

  it("says why a plan is refused, and takes over what would fit", async () => {
    const page = await openMemory();
    const cap = page.getByRole("slider", { name: "Most on cpu" });
    await cap.fill("208");
    await page.getByText("Refused.").waitFor();
    expect(await page.locator(".verdict").innerText()).toMatch(/needs .* MiB .*short/);
    expect(await device(page).innerText()).toMatch(/too much/);
    await page.getByRole("button", { name: /^a split of/ }).click();
    await page.getByText("Fits.").waitFor();
    expect(await page.locator(".command code").innerText()).toMatch(/--cpu-memory 2\d\dMiB$/);
  });

  it("tries the longest context that fits", async () => {
    const page = await openMemory();
    await page.getByRole("slider", { name: "Context" }).fill("512");
    await page.getByRole("button", { name: "f16 · 2,048 (the model’s limit)" }).click();
    expect(await page.locator(".command code").innerText()).toContain("--ctx 2048 --cache f16 --max-sequences 2 ");
  });

  it("is turned by keyboard alone", async () => {
    const page = await openMemory();
    await page.getByRole("slider", { name: "Context" }).focus();
    await page.keyboard.press("ArrowLeft");
    await page.getByText("1,792 tokens").waitFor();
    await page.keyboard.press("Home");
    expect(await page.locator(".command code").innerText()).toContain("--ctx 256 ");
    await page.keyboard.press("Shift+Tab");
    await page.keyboard.press("Enter");
    await page.getByText("The plan, and what is used").waitFor();
  });

  it("draws tokens, queue and latency, with the newest figures in words", async () => {
    const page = await openMemory();
    await page.locator("canvas").nth(2).waitFor();
    for (const name of ["Tokens", "Sequences", "Latency"])
      expect(await page.getByRole("region", { name, exact: true }).locator(".chart-now b").count()).toBe(2);
  });
});
