// Where a remote checkpoint's files are. Three ways of writing an address lead to a base
// address to which file names are appended; which of several bases is right shows the first
// request, for config.json.

import { UsageError } from "../errors.js";

/** A place to look for the files. */
export interface RemoteBase {
  /** Ends with a slash. */
  readonly files: string;
  /** Address that lists the repository's files as `{siblings: [{rfilename}]}`, or `null` for a plain folder. */
  readonly listing: string | null;
  /** Whether it belongs to the hub for which the environment's HF_TOKEN is meant. */
  readonly trusted: boolean;
}

export interface HubSettings {
  /** Default: HF_ENDPOINT of the environment, else https://huggingface.co. */
  readonly endpoint?: string;
}

/** `hf:owner/name`, `http://…` and `https://…` are remote; anything else is a folder. */
export function isRemoteAddress(address: string): boolean {
  return /^(hf:|https?:\/\/)/i.test(address);
}

const EXPECTED = "hf:owner/name, hf:owner/name@revision, https://host/owner/name, or the http address of a folder";
/** What a hub allows in owners, names and revisions; slashes in revisions are encoded. */
const NAME = /^[\w][\w.-]{0,95}$/;
const REVISION = /^[\w][\w./-]{0,199}$/;

/**
 * @returns the bases to try, likeliest first
 * @throws {UsageError} when it is none of the known forms
 */
export function remoteBases(address: string, settings: HubSettings = {}): RemoteBase[] {
  const endpoint = (settings.endpoint ?? environment("HF_ENDPOINT") ?? "https://huggingface.co").replace(/\/+$/, "");
  if (/^hf:/i.test(address)) {
    const match = /^hf:([^/@]+)\/([^/@]+)(?:@(.+))?$/i.exec(address);
    if (!match) throw badAddress(address);
    return [repository(endpoint, match[1]!, match[2]!, match[3] ?? "main", true, address)];
  }
  let url: URL;
  try {
    url = new URL(address);
  } catch {
    throw badAddress(address);
  }
  if (url.username || url.password) throw new UsageError("an address must not contain a password; use a token instead");
  if (/\.(safetensors|json|gguf|bin)$/i.test(url.pathname))
    throw new UsageError(`${address} is one file`, { expected: "the address of the whole checkpoint" });
  const trusted = sameOrigin(url.origin, endpoint);
  const [owner, name, view, ...rest] = url.pathname.split("/").filter(Boolean).map(decodeURIComponent);
  if (owner && name && (view === "resolve" || view === "tree") && rest.length > 0)
    return [repository(url.origin, owner, name, rest.join("/"), trusted, address)];
  const folder = { files: `${url.origin}${url.pathname.replace(/\/*$/, "/")}`, listing: null, trusted };
  if (!owner || !name || view || !NAME.test(owner) || !NAME.test(name)) return [folder];
  // Two path segments can be a repository or a folder; on the hub itself only the first.
  const inRepository = repository(url.origin, owner, name, "main", trusted, address);
  return trusted ? [inRepository] : [folder, inRepository];
}

/** An environment variable, where there is an environment: this file runs in browsers too. */
export function environment(name: string): string | undefined {
  return globalThis.process?.env?.[name] || undefined;
}

function repository(
  endpoint: string,
  owner: string,
  name: string,
  revision: string,
  trusted: boolean,
  address: string,
): RemoteBase {
  if (!NAME.test(owner) || !NAME.test(name) || !REVISION.test(revision) || revision.includes("..")) throw badAddress(address);
  const path = `${owner}/${name}`;
  const encoded = encodeURIComponent(revision);
  return {
    files: `${endpoint}/${path}/resolve/${encoded}/`,
    listing: `${endpoint}/api/models/${path}/revision/${encoded}`,
    trusted,
  };
}

function sameOrigin(origin: string, endpoint: string): boolean {
  try {
    return origin === new URL(endpoint).origin;
  } catch {
    return false;
  }
}

function badAddress(address: string): UsageError {
  return new UsageError(`${JSON.stringify(address)} is not an address of a checkpoint`, { expected: EXPECTED });
}
