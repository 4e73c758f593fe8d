// One streamed completion over plain node:http, with the time of every token.

import { Agent, request } from "node:http";

/** A slow reader waits so long before it takes the next piece, ms. */
const SLOW_MS = 50;

const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });

/**
 * Asks for a completion and reads it to its end, or leaves it.
 *
 * @param {string} url of the server
 * @param {object} body of /v1/completions
 * @param {{leaveAfterTokens?: number, leaveAfterMs?: number, slow?: boolean}} manners how the client
 *   behaves: leaves after so many tokens or ms, or takes a piece now and then only
 * @returns {Promise<{status: number, ids: number[], finish: string | null, firstMs: number | null,
 *   gapsMs: number[], left: boolean, error: string | null}>} never rejects: what fails is told
 */
export function complete(url, body, manners = {}) {
  const text = JSON.stringify({ ...body, stream: true, return_token_ids: true });
  const begun = performance.now();
  const answer = { status: 0, ids: [], finish: null, firstMs: null, gapsMs: [], left: false, error: null };
  return new Promise((resolve) => {
    let last = begun;
    let done = false;
    let leaving;
    const finish = (error = null) => {
      clearTimeout(leaving);
      answer.error = answer.left ? null : error;
      resolve(answer);
    };
    const sent = request(`${url}/v1/completions`, {
      method: "POST",
      agent,
      headers: { "content-type": "application/json", "content-length": Buffer.byteLength(text) },
    });
    const leave = () => {
      answer.left = true;
      sent.destroy();
    };
    if (manners.leaveAfterMs !== undefined) leaving = setTimeout(leave, manners.leaveAfterMs);
    const onEvent = (event) => {
      if (event === "[DONE]") {
        done = true;
        return;
      }
      const chunk = JSON.parse(event);
      if (chunk.error) return finish(`${chunk.error.code}: ${chunk.error.message}`);
      const [choice] = chunk.choices;
      if (!choice) return;
      answer.finish = choice.finish_reason ?? answer.finish;
      const ids = choice.token_ids ?? [];
      if (ids.length === 0) return;
      const now = performance.now();
      if (answer.firstMs === null) answer.firstMs = now - begun;
      else for (const _ of ids) answer.gapsMs.push((now - last) / ids.length);
      last = now;
      answer.ids.push(...ids);
      if (answer.ids.length >= (manners.leaveAfterTokens ?? Number.POSITIVE_INFINITY)) leave();
    };
    sent.on("response", (response) => {
      answer.status = response.statusCode;
      let unread = "";
      response.setEncoding("utf8");
      response.on("data", (piece) => {
        unread += piece;
        if (answer.status !== 200) return;
        const events = unread.split("\n\n");
        unread = events.pop();
        for (const event of events) if (event.startsWith("data: ")) onEvent(event.slice(6));
        if (manners.slow) {
          response.pause();
          setTimeout(() => response.resume(), SLOW_MS);
        }
      });
      response.on("close", () => {
        if (answer.status !== 200) finish(`status ${answer.status}: ${unread.slice(0, 300)}`);
        else finish(done ? null : "the stream ended before it was done");
      });
    });
    sent.on("error", (error) => finish(error.message));
    sent.end(text);
  });
}

/** Ends the connections that are kept. */
export function closeConnections() {
  agent.destroy();
}
