import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { readPage } from "./files.js";
import { pageRoutes } from "./routes.js";

const folder = mkdtempSync(join(tmpdir(), "page-"));
mkdirSync(join(folder, "assets"));
writeFileSync(join(folder, "index.html"), "<!doctype html><title>page</title>");
writeFileSync(join(folder, "assets", "main-1a2b.js"), "export {};");
writeFileSync(join(folder, "secret.txt"), "not of the page");
const app = pageRoutes(readPage(folder));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("pageRoutes", () => {
  it("serves the page with a policy that allows this server only, and no inline script", async () => {
    const response = await app.request("/");
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toContain("text/html");
    const policy = response.headers.get("content-security-policy")!;
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toMatch(/unsafe|https?:|\*/);
  });

  it("keeps hashed assets for good and asks again for the page", async () => {
    expect((await app.request("/assets/main-1a2b.js")).headers.get("cache-control")).toContain("immutable");
    const first = await app.request("/");
    expect(first.headers.get("cache-control")).toBe("no-cache");
    const again = await app.request("/", { headers: { "if-none-match": first.headers.get("etag")! } });
    expect(again.status).toBe(304);
    expect(await again.text()).toBe("");
  });

  it.each(["/secret.txt", "/../package.json", "/assets/../secret.txt", "/assets/%2e%2e/secret.txt", "/assets/", "/index.html/x"])(
    "has nothing at %s",
    async (path) => expect((await app.request(path)).status).toBe(404),
  );

  it("says what to do where the page is not built", async () => {
    const response = await pageRoutes(readPage(join(folder, "nowhere"))).request("/");
    expect(response.status).toBe(503);
    expect(await response.text()).toContain("npm run build");
  });
});
