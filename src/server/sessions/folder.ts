// Where sessions lie unless --sessions says otherwise.

import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";

/** `$XDG_STATE_HOME/exllama/sessions`, else `~/.local/state/exllama/sessions`. */
export function sessionsFolder(env: NodeJS.ProcessEnv = process.env): string {
  const state = env.XDG_STATE_HOME;
  return join(state && isAbsolute(state) ? state : join(homedir(), ".local", "state"), "exllama", "sessions");
}
