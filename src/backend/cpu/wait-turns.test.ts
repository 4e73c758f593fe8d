import { describe, expect, it } from "vitest";
import { meetingTurns, turnsBetweenSteps } from "./wait-turns.js";

describe("a waiting thread", () => {
  it("looks for long where every thread has a core, and for next to nothing where it would take another's", () => {
    expect(meetingTurns(2, 2)).toBe(meetingTurns(1, 64));
    expect(meetingTurns(3, 2) * 50).toBeLessThan(meetingTurns(2, 2));
    expect(turnsBetweenSteps(3, 2, 1) * 50).toBeLessThan(turnsBetweenSteps(2, 2, 1));
  });

  it("makes room for the host between steps where the team has all cores", () => {
    expect([0, 1].map((index) => turnsBetweenSteps(2, 2, index) > 0)).toEqual([false, true]);
    expect([0, 1].map((index) => turnsBetweenSteps(2, 4, index) > 0)).toEqual([true, true]);
  });
});
