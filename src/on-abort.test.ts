import { getEventListeners } from "node:events";
import { describe, expect, it } from "vitest";
import { onAbort } from "./on-abort.js";

const listeners = (signal: AbortSignal) => getEventListeners(signal, "abort").length;

describe("onAbort", () => {
  it("tells everybody once, in order, through one listener", () => {
    const controller = new AbortController();
    const heard: number[] = [];
    for (let i = 0; i < 100; i++) onAbort(controller.signal, () => heard.push(i));
    expect(listeners(controller.signal)).toBe(1);
    controller.abort();
    expect(heard).toEqual(Array.from({ length: 100 }, (_, i) => i));
    expect(listeners(controller.signal)).toBe(0);
  });

  it("tells nobody who has left, and leaves nothing behind with the last", () => {
    const controller = new AbortController();
    const heard: string[] = [];
    const same = () => heard.push("same");
    const leaveFirst = onAbort(controller.signal, same);
    const leaveSecond = onAbort(controller.signal, same);
    leaveFirst();
    leaveFirst();
    expect(listeners(controller.signal)).toBe(1);
    leaveSecond();
    expect(listeners(controller.signal)).toBe(0);
    onAbort(controller.signal, () => heard.push("later"));
    controller.abort();
    expect(heard).toEqual(["later"]);
    leaveSecond();
  });

  it("lets somebody leave while it tells the others", () => {
    const controller = new AbortController();
    const heard: string[] = [];
    const leave = onAbort(controller.signal, () => {
      heard.push("first");
      leave();
    });
    onAbort(controller.signal, () => heard.push("second"));
    controller.abort();
    expect(heard).toEqual(["first", "second"]);
  });

  it("has nothing to wait for without a signal, and with one that is aborted", () => {
    let heard = 0;
    onAbort(undefined, () => heard++)();
    onAbort(AbortSignal.abort(), () => heard++)();
    expect(heard).toBe(0);
  });
});
