import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ResponseNotFoundError, ResponseStore } from "./store.js";

const response = (id: string, text = "") => ({ id, body: {}, messages: [{ role: "user" as const, content: text }] });

describe("ResponseStore", () => {
  it("gives what it keeps, until it is removed", () => {
    const store = new ResponseStore();
    store.keep(response("a", "hello"));
    expect(store.get("a").messages[0]?.content).toBe("hello");
    expect(store.remove("a")).toBe(true);
    expect(store.remove("a")).toBe(false);
    expect(() => store.get("a", "previous_response_id")).toThrow(ResponseNotFoundError);
  });

  it("lets the one that was not used for longest give way", () => {
    const store = new ResponseStore({ count: 2, characters: 1e6 });
    store.keep(response("a"));
    store.keep(response("b"));
    store.get("a");
    store.keep(response("c"));
    expect(() => store.get("b")).toThrow();
    expect([store.get("a").id, store.get("c").id]).toEqual(["a", "c"]);
  });

  it("never keeps more than it may, whatever comes", () => {
    const step = fc.record({
      id: fc.integer({ min: 0, max: 20 }).map(String),
      text: fc.string({ maxLength: 400 }),
      remove: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const store = new ResponseStore({ count: 5, characters: 1000 });
        for (const { id, text, remove } of steps) {
          if (remove) store.remove(id);
          else store.keep(response(id, text));
        }
        const kept = [...Array(21).keys()].flatMap((id) => {
          try {
            return [store.get(String(id))];
          } catch {
            return [];
          }
        });
        expect(kept.length).toBeLessThanOrEqual(5);
        expect(kept.reduce((sum, one) => sum + JSON.stringify(one).length, 0)).toBeLessThanOrEqual(1000);
      }),
    );
  });
});
