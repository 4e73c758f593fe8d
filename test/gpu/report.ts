// One line per check, and how many failed.

export class Report {
  failed = 0;
  /** Facts for the JSON record. */
  readonly results: { name: string; ok: boolean; said: string; ms: number }[] = [];

  /** Runs one check; what it returns is printed beside its name. */
  async check(name: string, run: () => Promise<string> | string): Promise<void> {
    const begun = performance.now();
    try {
      this.#add(name, true, await run(), begun);
    } catch (error) {
      this.failed++;
      this.#add(
        name,
        false,
        error instanceof Error ? (process.env.EXLLAMA_DEBUG ? error.stack! : error.message) : String(error),
        begun,
      );
    }
  }

  #add(name: string, ok: boolean, said: string, begun: number): void {
    const ms = Math.round(performance.now() - begun);
    this.results.push({ name, ok, said, ms });
    console.log(`${ok ? "ok    " : "FAILED"} ${name}: ${said} (${ms} ms)`);
  }
}
