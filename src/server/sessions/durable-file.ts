// A file that is there whole or not at all, whenever the machine or the process stops: written
// beside its place, forced to the disk, renamed over it, and the folder's entry forced too.

import { randomBytes } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";

/** Begins the name of every unfinished file, so that a later start can tell and remove them. */
export const UNFINISHED = ".unfinished-";

/** @throws what the disk says; the old contents are still there then */
export async function writeDurably(path: string, text: string): Promise<void> {
  const folder = dirname(path);
  const partial = `${folder}/${UNFINISHED}${randomBytes(8).toString("hex")}`;
  try {
    const file = await open(partial, "wx", 0o600);
    try {
      await file.writeFile(text, "utf8");
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(partial, path);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
  await syncFolder(folder);
}

/** Renames for good. */
export async function moveDurably(from: string, to: string): Promise<void> {
  await rename(from, to);
  await syncFolder(dirname(to));
  if (dirname(from) !== dirname(to)) await syncFolder(dirname(from));
}

/** Windows cannot open a folder; its renames are journalled by the file system. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === "win32") return;
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
