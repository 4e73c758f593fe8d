// exllama shard: a checkpoint's weights split into files of a bounded size.

import { type Command, InvalidArgumentError } from "commander";
import { shardCheckpoint } from "../../checkpoint/shard.js";
import { UsageError } from "../../errors.js";
import { formatBytes, parseSize } from "../../memory/size.js";
import { interruptible } from "../interrupt.js";
import { grouped, note, printJson, printTable } from "../output.js";
import { ProgressBar } from "../progress.js";

interface Flags {
  maxSize: number;
  out: string;
  json?: boolean;
}

/** A header alone takes some of it. */
const LEAST_SIZE = 4096;

const ABOUT = `
Copies the checkpoint into a new folder, its tensors in model-0000i-of-0000n.safetensors with their
index, none of them cut: a tensor that is larger than a file may be has one to itself. Their bytes
stay as they are, and the small files beside them come along. The folder appears when it is
complete; nothing is ever overwritten.

Examples:
  exllama shard ./llama-7b --out ./llama-7b-sharded
  exllama shard ./llama-7b --max-size 500MB --out /mnt/stick/llama-7b`;

export function addShard(program: Command): void {
  program
    .command("shard")
    .argument("<folder>", "folder of the checkpoint")
    .description("split a checkpoint's weights into files of a bounded size")
    .addHelpText("after", ABOUT)
    .requiredOption("-o, --out <folder>", "folder to make")
    .option("--max-size <size>", "most bytes of a file, such as 2GiB or 500MB", fileSize, 2 * 2 ** 30)
    .option("--json", "print one JSON line")
    .action(shard);
}

function fileSize(text: string): number {
  try {
    const bytes = parseSize(text);
    if (bytes >= LEAST_SIZE) return bytes;
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new InvalidArgumentError(`${error.message}.`);
  }
  throw new InvalidArgumentError(`It must be at least ${LEAST_SIZE} bytes.`);
}

async function shard(folder: string, { maxSize, out, json }: Flags): Promise<void> {
  const bar = new ProgressBar("writing");
  const result = await interruptible((signal) =>
    shardCheckpoint({
      folder,
      out,
      most: maxSize,
      signal,
      onProgress: ({ writtenBytes, totalBytes }) =>
        bar.show(writtenBytes, totalBytes, `${formatBytes(writtenBytes)} of ${formatBytes(totalBytes)}`),
    }).finally(() => bar.clear()),
  );
  const { shards, copied } = result;
  const large = shards.filter(({ bytes }) => bytes > maxSize);
  if (large.length > 0)
    note(
      `${large.map(({ file }) => file).join(", ")}: larger than ${formatBytes(maxSize)}, for one tensor alone is; tensors are never cut`,
    );
  if (json) {
    printJson({ out, maxSize, shards, copied });
    return;
  }
  printTable([
    ...shards.map(({ file, tensors, bytes }): [string, string] => [file, `${formatBytes(bytes)}, ${grouped(tensors)} tensors`]),
    ["copied", copied.length === 0 ? "nothing" : copied.join(", ")],
  ]);
}
