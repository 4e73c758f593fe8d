// HTTP as careful reading of a stranger needs it: exactly the bytes asked for or an error,
// never more than a limit, never longer than a time without progress. Bodies that are not
// wanted are cancelled, not drained.

import { RemoteCheckpointError } from "./errors.js";

export interface HttpSettings {
  readonly fetch: typeof globalThis.fetch;
  readonly headers: Readonly<Record<string, string>>;
  readonly signal: AbortSignal | undefined;
  /** Answers that mean "no such file": 404, and 403 where others could be read (object stores hide names so). */
  readonly absent: readonly number[];
  /** Longest time without a byte, ms. */
  readonly timeoutMs: number;
}

/** A range of a remote file. */
export interface RemoteRange {
  readonly bytes: Uint8Array;
  /** Length of the whole file. */
  readonly fileBytes: number;
}

/**
 * Reads a whole small file.
 *
 * @returns `null` when the server says there is none
 * @throws {RemoteCheckpointError}
 */
export function getSmallFile(url: string, maxBytes: number, settings: HttpSettings): Promise<Uint8Array | null> {
  return request(url, {}, settings, async (response, body) => {
    if (settings.absent.includes(response.status)) return null;
    if (response.status !== 200) throw refused(url, response);
    return await body(maxBytes);
  });
}

/**
 * Reads bytes `first` … `first + length − 1` (fewer where the file ends before).
 *
 * @returns `null` when the server says there is no such file
 * @throws {RemoteCheckpointError} above all when the server would send the whole file instead
 */
export function getRange(url: string, first: number, length: number, settings: HttpSettings): Promise<RemoteRange | null> {
  const headers = { range: `bytes=${first}-${first + length - 1}` };
  return request(url, headers, settings, async (response, body) => {
    if (settings.absent.includes(response.status)) return null;
    if (response.status === 416) return { bytes: new Uint8Array(), fileBytes: Number(totalOf(response) ?? 0) };
    if (response.status === 200)
      throw new RemoteCheckpointError(`${url}: the server sends whole files only, and headers alone are wanted`, {
        hint: "Use a server that answers range requests, or download the checkpoint and name its folder.",
        details: { url },
      });
    if (response.status !== 206) throw refused(url, response);
    const range = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(response.headers.get("content-range") ?? "");
    const [start, end, fileBytes] = (range ?? []).slice(1).map(Number);
    const wanted = Math.min(length, (fileBytes ?? 0) - first);
    if (start !== first || end !== first + wanted - 1 || !Number.isSafeInteger(fileBytes))
      throw new RemoteCheckpointError(
        `${url}: asked for bytes ${first} to ${first + length - 1}, the server answered with the range ${JSON.stringify(response.headers.get("content-range"))}`,
        { details: { url } },
      );
    const bytes = await body(wanted);
    if (bytes.byteLength !== wanted)
      throw new RemoteCheckpointError(`${url}: the answer ended after ${bytes.byteLength} of ${wanted} bytes`, {
        details: { url },
      });
    return { bytes, fileBytes: fileBytes! };
  });
}

type ReadBody = (maxBytes: number) => Promise<Uint8Array>;

async function request<T>(
  url: string,
  headers: Record<string, string>,
  settings: HttpSettings,
  use: (response: Response, body: ReadBody) => Promise<T>,
): Promise<T> {
  settings.signal?.throwIfAborted();
  const controller = new AbortController();
  let timedOut = false;
  const giveUp = () => {
    timedOut = true;
    controller.abort();
  };
  let timer = setTimeout(giveUp, settings.timeoutMs);
  const onAbort = () => controller.abort();
  settings.signal?.addEventListener("abort", onAbort, { once: true });
  const progress = () => {
    clearTimeout(timer);
    timer = setTimeout(giveUp, settings.timeoutMs);
  };
  try {
    // A compressed range would be bytes of another file. Browsers set this one themselves.
    const all = { ...settings.headers, ...headers, "accept-encoding": "identity" };
    // Browsers refuse a fetch that is called as a method of something else.
    const { fetch } = settings;
    const response = await fetch(url, { headers: all, signal: controller.signal, redirect: "follow" });
    progress();
    return await use(response, (maxBytes) => readBody(response, maxBytes, url, progress));
  } catch (error) {
    settings.signal?.throwIfAborted();
    if (timedOut)
      throw new RemoteCheckpointError(`${url}: no answer within ${settings.timeoutMs / 1000} s`, {
        details: { url },
        cause: error,
      });
    if (error instanceof RemoteCheckpointError) throw error;
    throw new RemoteCheckpointError(`${url} cannot be reached: ${reason(error)}`, { details: { url }, cause: error });
  } finally {
    clearTimeout(timer);
    settings.signal?.removeEventListener("abort", onAbort);
    // Ends whatever of the body is still on its way; nothing happens to one that was read.
    controller.abort();
  }
}

async function readBody(response: Response, maxBytes: number, url: string, progress: () => void): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  const reader = response.body?.getReader();
  while (reader) {
    const { done, value } = await reader.read();
    if (done) break;
    progress();
    length += value.byteLength;
    if (length > maxBytes)
      throw new RemoteCheckpointError(`${url}: the answer is longer than the ${maxBytes} bytes that are read`, {
        details: { url },
      });
    chunks.push(value);
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.byteLength;
  }
  return bytes;
}

// The whole length, which a refused range tells: `Content-Range: bytes */1234`.
function totalOf(response: Response): string | undefined {
  return /\/(\d+)$/.exec(response.headers.get("content-range") ?? "")?.[1];
}

function refused(url: string, response: Response): RemoteCheckpointError {
  const needsToken = response.status === 401 || response.status === 403;
  return new RemoteCheckpointError(`${url}: the server answered ${response.status} ${response.statusText}`.trimEnd(), {
    ...(needsToken && { hint: "The repository is private, gated or does not exist; a token (HF_TOKEN) may be needed." }),
    details: { url, status: response.status },
  });
}

/** fetch() says "fetch failed" and hides the reason in the cause. */
function reason(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error ? cause.message || (cause as NodeJS.ErrnoException).code || message : message;
}
