// What JSON Schema's `format` means here: for each name a pattern, narrower than the standard
// where that keeps nonsense out.

const OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
const DATE =
  "[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))";
const CLOCK = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,6})?";
const ZONE = "(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";
const LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
const HEX = "[0-9a-fA-F]";

export const FORMATS: ReadonlyMap<string, string> = new Map([
  ["date", DATE],
  ["time", `${CLOCK}${ZONE}`],
  ["date-time", `${DATE}T${CLOCK}${ZONE}`],
  ["duration", "P(?:[0-9]{1,4}W|[0-9]{1,4}D(?:T[0-9]{1,4}[HMS])?|[0-9]{1,4}[YM]|T[0-9]{1,4}[HMS])"],
  ["email", `[A-Za-z0-9]+(?:[._+-][A-Za-z0-9]+)*@${LABEL}(?:\\.${LABEL})*\\.[A-Za-z]{2,24}`],
  ["hostname", `${LABEL}(?:\\.${LABEL})*`],
  ["ipv4", `${OCTET}(?:\\.${OCTET}){3}`],
  ["ipv6", `(?:${HEX}{1,4}:){7}${HEX}{1,4}|(?:${HEX}{1,4}:){1,6}:${HEX}{1,4}|::(?:${HEX}{1,4})?`],
  ["uuid", `${HEX}{8}-${HEX}{4}-[1-8]${HEX}{3}-[89abAB]${HEX}{3}-${HEX}{12}`],
  [
    "uri",
    "[a-z][a-z0-9+.-]*://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]*)*(?:\\?[A-Za-z0-9._~!$&'()*+,;=:@/?-]*)?",
  ],
]);

/** Formats of OpenAPI that only name a size of number. */
export const NUMBER_FORMATS: ReadonlySet<string> = new Set(["int32", "int64", "float", "double"]);
