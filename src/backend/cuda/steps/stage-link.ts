// How hidden states cross from one stage to the next, and chosen ids from the last to the first: within a card by a copy, between cards
// directly where they can reach each other, else through host memory. Events order the two
// streams, so the host waits for nothing.

import type { Stage } from "./stage.js";

export interface StageLink {
  /** Puts the first `bytes` of the region across; what the other stage launches from now on finds them there. */
  cross(bytes: number): void;
}

/**
 * @param region that crosses, the same on both stages
 * @param peers false: never directly, also where cards could
 */
export function linkStages(from: Stage, to: Stage, region: string, mostBytes: number, peers: boolean): StageLink {
  const [source, target] = [from.at(region), to.at(region)];
  if (from.context === to.context) return { cross: (bytes) => from.context.use().copyInside(target, source, bytes) };
  const written = from.context.use().createEvent();
  // Until the next stage has read it, the one before must not overwrite it; a step's end sees to that.
  if (peers && from.context.enablePeer(to.context) && to.context.enablePeer(from.context)) {
    return {
      cross(bytes) {
        const { driver, stream, handle, id } = from.context.use();
        driver.call("cuMemcpyPeerAsync", [target, to.context.handle, source, handle, bytes, stream], { device: id });
        from.context.record(written);
        to.context.use().waitFor(written);
      },
    };
  }
  const memory = from.context.use().allocatePinned(mostBytes);
  return {
    cross(bytes) {
      const view = new Uint8Array(memory.buffer, 0, bytes);
      from.context.use().copyOut(view, source);
      from.context.record(written);
      to.context.use().waitFor(written);
      to.context.copyIn(target, view);
    },
  };
}
