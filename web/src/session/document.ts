// A document as the server keeps it, taken apart into what may be changed and what may not.

import type { SessionContent, SessionDocument } from "../../../src/server/sessions/document.js";

export type {
  SessionBlock,
  SessionContent,
  SessionDocument,
  SessionMode,
  SessionSampling,
  SessionSettings,
  SessionSummary,
  TokenProbability,
} from "../../../src/server/sessions/document.js";

export function readHead(document: SessionDocument): { content: SessionContent; revision: number } {
  const { format: _format, version: _version, id: _id, revision, created: _created, updated: _updated, ...content } = document;
  return { content, revision };
}
