import { describe, expect, it } from "vitest";
import type { Place } from "./place.js";
import { WaitingPlaces } from "./waiting-places.js";

const place = (order: number, paused = false) => ({ order, overtaken: 0, job: { paused } }) as Place;

/** Orders of those that begin when only these fit. */
function admitted(waiting: WaitingPlaces, fits: (order: number) => boolean): number[] {
  const orders: number[] = [];
  waiting.admit(({ order }) => {
    if (fits(order)) orders.push(order);
    return fits(order);
  });
  return orders;
}

describe("WaitingPlaces", () => {
  it("lets those that had to give way go first, the oldest before the others, then new ones in turn", () => {
    const waiting = new WaitingPlaces();
    for (const order of [7, 8]) waiting.add(place(order));
    for (const order of [5, 3, 4]) waiting.addPreempted(place(order));
    expect(waiting).toMatchObject({ size: 5, newcomers: 2 });
    expect(admitted(waiting, () => true)).toEqual([3, 4, 5, 7, 8]);
    expect(waiting.size).toBe(0);
  });

  it("lets nobody begin while one that had to give way does not fit, unless nobody reads that one", () => {
    const waiting = new WaitingPlaces();
    waiting.add(place(7));
    waiting.addPreempted(place(3));
    expect(admitted(waiting, (order) => order !== 3)).toEqual([]);
    const unread = new WaitingPlaces();
    unread.add(place(7));
    unread.addPreempted(place(3, true));
    expect(admitted(unread, () => true)).toEqual([7]);
    expect(unread.size).toBe(1);
  });

  it("lets others pass one that does not fit, but not for ever", () => {
    const waiting = new WaitingPlaces();
    waiting.add(place(1));
    for (let order = 2; order < 40; order++) waiting.add(place(order));
    const passed = admitted(waiting, (order) => order > 1);
    expect(passed).toEqual(Array.from({ length: 16 }, (_, i) => i + 2));
    expect(admitted(waiting, (order) => order > 1)).toEqual([]);
    expect(admitted(waiting, () => true)[0]).toBe(1);
  });

  it("forgets one that is cancelled, and all when it is cleared", () => {
    const waiting = new WaitingPlaces();
    const [fresh, old] = [place(5), place(2)];
    waiting.add(fresh);
    waiting.addPreempted(old);
    waiting.add(place(6));
    expect([waiting.remove(fresh), waiting.remove(old), waiting.remove(old)]).toEqual([true, true, false]);
    expect(waiting.clear().map(({ order }) => order)).toEqual([6]);
    expect(waiting.size).toBe(0);
  });
});
