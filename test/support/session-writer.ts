// A process that does nothing but write one session, over and over, and says after each write
// which revision is now on the disk. Started, and killed, by the test of killed writers.

import { SessionStore } from "../../src/server/sessions/store.js";
import { sessionContent } from "./session-content.js";

const [folder, id] = process.argv.slice(2) as [string, string];
const store = await SessionStore.open(folder);
let { revision } = await store.read(id);
for (;;) {
  const text = `revision ${revision + 1} `.repeat(20_000);
  ({ revision } = await store.write(id, revision, sessionContent({ text })));
  process.stdout.write(`${revision}\n`);
}
