import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { readHistory, writeHistory } from "./history.js";

describe("the chat's history", () => {
  it("comes back newest first, and only its owner may read it", () => {
    const folder = mkdtempSync(join(tmpdir(), "exllama-history-"));
    try {
      const path = join(folder, "state", "chat-history");
      expect(readHistory(path)).toEqual([]);
      writeHistory(["newest", "older"], path);
      expect(readHistory(path)).toEqual(["newest", "older"]);
      if (process.platform !== "win32") expect(statSync(path).mode & 0o077).toBe(0);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("does without a place to be kept", () => {
    expect(() => writeHistory(["x"], "/dev/null/state/chat-history")).not.toThrow();
  });
});
