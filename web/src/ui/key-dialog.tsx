// Asks for the key of a server that wants one.

import { useEffect, useRef } from "preact/hooks";
import { keyNeeded, useKey } from "../server/http.js";

export function KeyDialog() {
  const dialog = useRef<HTMLDialogElement>(null);
  const needed = keyNeeded.value;
  useEffect(() => {
    if (needed !== "no" && !dialog.current?.open) dialog.current?.showModal();
  }, [needed]);
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const key = new FormData(event.currentTarget as HTMLFormElement).get("key");
    if (typeof key === "string" && key.trim() !== "") useKey(key.trim());
  };
  return (
    <dialog ref={dialog} class="dialog" aria-labelledby="key-title">
      <form onSubmit={submit}>
        <h2 id="key-title">{needed === "wrong" ? "That key does not open this" : "This server wants a key"}</h2>
        <p>It was started with one. The key stays in this browser; an admin key opens sessions and the memory page, too.</p>
        <label class="field">
          <span>Key</span>
          <input name="key" type="password" autocomplete="current-password" required />
        </label>
        <div class="dialog-actions">
          <button type="submit" class="button primary">
            Use it
          </button>
        </div>
      </form>
    </dialog>
  );
}
