// Responses that later ones may go on from (`previous_response_id`), in memory: the newest ones, up to
// a number and a size. What has given way is asked for in vain, and the client then sends the whole
// conversation. Nothing is written to disk, and a restart forgets all.

import type { ChatMessage } from "../../engine/model.js";
import { ApiError } from "../errors.js";

export interface KeptResponse {
  readonly id: string;
  /** As it was given to the client. */
  readonly body: object;
  /** The conversation up to and with this response, instructions excluded. */
  readonly messages: readonly ChatMessage[];
}

export class ResponseNotFoundError extends ApiError {
  constructor(id: string, param: string | null) {
    super(404, "invalid_request_error", "RESPONSE_NOT_FOUND", `the response ${JSON.stringify(id)} is not kept here`, {
      param,
      hint: "Responses are kept in memory while there is room; send the whole conversation as 'input' instead.",
    });
  }
}

export class ResponseStore {
  readonly #most: { readonly count: number; readonly characters: number };
  /** Oldest first. */
  readonly #kept = new Map<string, { readonly response: KeptResponse; readonly characters: number }>();
  #characters = 0;

  constructor(most = { count: 1000, characters: 32 * 2 ** 20 }) {
    this.#most = most;
  }

  /** Keeps a response unless it is larger than everything that may be kept. */
  keep(response: KeptResponse): void {
    const characters = JSON.stringify(response).length;
    if (characters > this.#most.characters) return;
    this.#kept.set(response.id, { response, characters });
    this.#characters += characters;
    for (const id of this.#kept.keys()) {
      if (this.#kept.size <= this.#most.count && this.#characters <= this.#most.characters) return;
      this.remove(id);
    }
  }

  /** @param param the parameter that named it, for the error. @throws {ResponseNotFoundError} */
  get(id: string, param: string | null = null): KeptResponse {
    const kept = this.#kept.get(id);
    if (!kept) throw new ResponseNotFoundError(id, param);
    // What is used stays longest.
    this.#kept.delete(id);
    this.#kept.set(id, kept);
    return kept.response;
  }

  /** @returns whether it was there */
  remove(id: string): boolean {
    const kept = this.#kept.get(id);
    if (!kept) return false;
    this.#kept.delete(id);
    this.#characters -= kept.characters;
    return true;
  }
}
