// What can go wrong with sessions. The routes turn each into a status; the page says the rest.

import { ExllamaError } from "../../errors.js";
import type { SessionDocument } from "./document.js";

/** A document that is no session: wrong fields, too large, broken tree. */
export class SessionInvalidError extends ExllamaError {
  constructor(field: string, reason: string) {
    super("SESSION_INVALID", `${field}: ${reason}`, {
      hint: "Send a session as this server exports it.",
      details: { field },
    });
  }
}

export class SessionTooLargeError extends ExllamaError {
  constructor(bytes: number, most: number) {
    super("SESSION_TOO_LARGE", `the session takes ${bytes} bytes; ${most} are allowed`, {
      hint: "Delete old branches, or begin a new session.",
      details: { bytes, most },
    });
  }
}

export class SessionNotFoundError extends ExllamaError {
  constructor(id: string) {
    super("SESSION_NOT_FOUND", `there is no session "${id.slice(0, 80)}"`, { details: { id: id.slice(0, 80) } });
  }
}

/** The file was written by a newer version of this program; it is left as it is. */
export class SessionVersionError extends ExllamaError {
  constructor(id: string, version: number) {
    super("SESSION_VERSION", `session ${id} has version ${version}, which this version of exllama-ts cannot read`, {
      hint: "Start the newer exllama-ts again to read it.",
      details: { id, version },
    });
  }
}

/** Somebody else has written since: nothing was overwritten. */
export class SessionConflictError extends ExllamaError {
  readonly current: SessionDocument;

  constructor(expected: number, current: SessionDocument) {
    super("SESSION_CONFLICT", `the session is at revision ${current.revision}; the write was made for ${expected}`, {
      hint: "Read the session again, merge, and write with its revision.",
      details: { expected, revision: current.revision },
    });
    this.current = current;
  }
}

export class SessionLimitError extends ExllamaError {
  constructor(most: number) {
    super("SESSION_LIMIT", `there are ${most} sessions, which is as many as one folder takes`, {
      hint: "Delete some, or start the server with another --sessions folder.",
      details: { most },
    });
  }
}
