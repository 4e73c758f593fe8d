// `$ref` within one schema: `#` or a JSON pointer such as `#/$defs/node`.

import { schemaError } from "./schema-keywords.js";

/** @throws {ConstraintError} when nothing is there */
export function resolveReference(root: unknown, reference: string, path: string): unknown {
  const missing = () => schemaError(`$ref ${JSON.stringify(reference)} points to nothing`, path, { keyword: "$ref" });
  if (reference === "#" || reference === "") return root;
  if (!reference.startsWith("#/"))
    throw schemaError(`$ref ${JSON.stringify(reference)} is not a pointer such as #/$defs/name`, path, { keyword: "$ref" });
  let found = root;
  for (const part of reference.slice(2).split("/")) {
    let key: string;
    try {
      key = decodeURIComponent(part).replace(/~1/g, "/").replace(/~0/g, "~");
    } catch {
      throw missing();
    }
    if (typeof found !== "object" || found === null || !Object.hasOwn(found, key)) throw missing();
    found = (found as Record<string, unknown>)[key];
  }
  return found;
}
