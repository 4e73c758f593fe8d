// Sessions from the list at the side: kept on the server, found, renamed, deleted, taken back,
// carried out and in, and changed by two tabs at once.

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, describe, expect } from "vitest";
import { chat, it, type Site, START_MS, startSite } from "./harness.js";

let site: Site;
it.beforeAll(async ({ started }) => {
  site = await startSite(started);
}, START_MS);
afterAll(() => site?.close());

/** Titles in the list. */
const titles = (page: Page) => page.locator(".session-title").allInnerTexts();

async function withSession(title: string): Promise<Page> {
  const page = await site.open();
  await page.getByRole("button", { name: /^Chat/ }).click();
  await rename(page, title);
  return page;
}

async function rename(page: Page, title: string): Promise<void> {
  await page.getByRole("textbox", { name: "Title of this session" }).fill(title);
  await page.keyboard.press("Enter");
  await page.locator(".session-title", { hasText: title }).waitFor();
}

describe("sessions", () => {
  it("are found by what was said, and renamed in the list", async () => {
    const page = await withSession("About foxes");
    await page.getByRole("link", { name: "New session" }).click();
    // The session that is left has a box for messages too.
    await page.getByRole("button", { name: /^Chat/ }).waitFor();
    await chat(page, "What colour is the sky?");
    await page.getByRole("searchbox", { name: "Search sessions" }).fill("COLOUR sky");
    await page.locator(".session-title", { hasText: "About foxes" }).waitFor({ state: "detached" });
    await expect.poll(() => titles(page)).toEqual(["What colour is the sky?"]);
    await page.getByRole("button", { name: /^Rename/ }).click();
    await page.getByRole("textbox", { name: "New title" }).fill("The sky/../now");
    await page.keyboard.press("Enter");
    await page.getByRole("searchbox", { name: "Search sessions" }).fill("");
    await page.locator(".session-title", { hasText: "About foxes" }).waitFor();
    await expect.poll(() => titles(page)).toEqual(["The sky/../now", "About foxes"]);
    expect(readdirSync(site.sessions).filter((name) => name.endsWith(".json"))).toHaveLength(2);
  });

  it("come back after they were deleted", async () => {
    const page = await withSession("To be deleted");
    await page.getByRole("button", { name: "Delete “To be deleted”" }).click();
    await page.locator(".session-title", { hasText: "To be deleted" }).waitFor({ state: "detached" });
    await page.getByRole("button", { name: "Undo" }).click();
    await page.locator(".session-title", { hasText: "To be deleted" }).waitFor();
    expect(await page.getByRole("textbox", { name: "Title of this session" }).inputValue()).toBe("To be deleted");
  });

  it("are exported and imported whole", async () => {
    const page = await withSession("Exported");
    await page.getByRole("button", { name: "Settings", exact: true }).click();
    const [download] = await Promise.all([
      page.waitForEvent("download"),
      page.getByRole("button", { name: "Export", exact: true }).click(),
    ]);
    expect(download.suggestedFilename()).toBe("Exported.json");
    const text = readFileSync(await download.path(), "utf8");
    const imported = {
      name: "x.json",
      mimeType: "application/json",
      buffer: Buffer.from(text.replace('"Exported"', '"Imported"')),
    };
    await page.locator('input[type="file"]').setInputFiles(imported);
    await page.locator(".session-title", { hasText: "Imported" }).waitFor();
    const wrong = { name: "x.json", mimeType: "application/json", buffer: Buffer.from('{"format":"other"}') };
    await page.locator('input[type="file"]').setInputFiles(wrong);
    await page.locator(".toast", { hasText: /The file was not imported: .*title/ }).waitFor();
  });

  it("keep what two tabs write at the same time", async () => {
    const one = await withSession("Shared");
    await chat(one, "What colour is the sky?");
    await one.waitForTimeout(700);
    const two = await site.openApart(new URL(one.url()).hash); // a browser of its own: nothing tells it of the other's writes
    await two.getByRole("article", { name: "Model said" }).waitFor();
    await rename(one, "Renamed by one");
    await one.waitForTimeout(700);
    const question = two.getByRole("article", { name: "You said" });
    await question.hover();
    await question.getByRole("button", { name: "Edit" }).click();
    await question.getByRole("textbox", { name: "Text" }).fill("Edited by two");
    await question.getByRole("button", { name: "Save" }).click();
    await two.locator(".session-title", { hasText: "Renamed by one" }).waitFor();
    await one.reload();
    await one.getByText("Edited by two").waitFor();
    expect(await one.getByRole("textbox", { name: "Title of this session" }).inputValue()).toBe("Renamed by one");
    await two.context().close();
  });

  it("report a file that cannot be read, and keep it", async () => {
    const id = "11111111-2222-3333-4444-555555555555";
    writeFileSync(join(site.sessions, `${id}.json`), '{"torn');
    const page = await site.open();
    await page.getByText("One file could not be read").click();
    await page.getByText(`damaged/${id}`).waitFor();
    expect(readdirSync(join(site.sessions, "damaged"))).toHaveLength(1);
  });
});
