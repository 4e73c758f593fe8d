import { describe, expect, it } from "vitest";
import { LastLines } from "./last-lines.js";

describe("LastLines", () => {
  it("is empty when nothing was written", () => expect(new LastLines().text()).toBe(""));

  it("joins what comes in pieces", () => {
    const lines = new LastLines();
    for (const piece of ["FATAL: ", "out of memory\n", "aborted\n"]) lines.add(Buffer.from(piece));
    expect(lines.text()).toBe("FATAL: out of memory\naborted");
  });

  it("keeps the end of an endless flow", () => {
    const lines = new LastLines();
    for (let line = 0; line < 5000; line++) lines.add(Buffer.from(`line ${line}\n`));
    expect(lines.text().endsWith("line 4999")).toBe(true);
    expect(lines.text().split("\n")).toHaveLength(20);
  });
});
