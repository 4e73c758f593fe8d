// The end of what an engine writes to its standard error: enough to say why it died, never
// more, however much it writes.

const KEPT_BYTES = 8192;
const SHOWN_LINES = 20;

export class LastLines {
  #bytes = Buffer.alloc(0);

  add(bytes: Uint8Array): void {
    this.#bytes = Buffer.concat([this.#bytes, bytes]).subarray(-KEPT_BYTES);
  }

  /** The last lines, without the newline at the end; empty when nothing was written. */
  text(): string {
    return this.#bytes.toString("utf8").trimEnd().split("\n").slice(-SHOWN_LINES).join("\n");
  }
}
