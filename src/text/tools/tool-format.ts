// How a model writes the calls that it makes. A template that knows tools shows its format in
// its own text; one that does not gets a system text that describes the tools and asks for the
// commonest format. All formats here are: a mark, JSON of one or several calls, an end mark.

export interface ToolFormat {
  readonly name: "hermes" | "llama" | "mistral" | "mistral-named";
  /** Whether the template writes tools, calls and results itself. */
  readonly native: boolean;
  /** What calls begin with, perhaps a special token; `""`: the answer is the call. */
  readonly begin: string;
  /** Marks that may stand in the place of `begin`. */
  readonly otherBegins: readonly string[];
  /** Between the mark and the first call. */
  readonly open: string;
  /** Between calls under one mark; `null`: each call has a mark of its own. */
  readonly separator: string | null;
  /** Behind the last call, before `end`. */
  readonly close: string;
  readonly end: string;
  /** What stands before a call's arguments. */
  readonly before: (name: string) => string;
  /** What stands behind them. */
  readonly after: string;
  /** Marks within a call. */
  readonly inner: readonly string[];
  /** Field of a call that holds its arguments. */
  readonly argumentsField: "arguments" | "parameters";
  /** Several calls in one answer. */
  readonly parallel: boolean;
  /** Between calls that have marks of their own. */
  readonly between: string;
}

const jsonCall = (field: string) => (name: string) => `{"name": "${name}", "${field}": `;

const HERMES: ToolFormat = {
  name: "hermes",
  native: true,
  begin: "<tool_call>",
  otherBegins: [],
  open: "\n",
  separator: null,
  close: "\n",
  end: "</tool_call>",
  before: jsonCall("arguments"),
  after: "}",
  inner: [],
  argumentsField: "arguments",
  parallel: true,
  between: "\n",
};

/** The template knows no tools, or writes them in a way that is not known here. */
const DESCRIBED: ToolFormat = { ...HERMES, native: false };

const LLAMA: ToolFormat = {
  ...HERMES,
  name: "llama",
  begin: "",
  otherBegins: ["<|python_tag|>"],
  open: "",
  close: "",
  end: "",
  before: jsonCall("parameters"),
  argumentsField: "parameters",
  parallel: false,
  between: "",
};

const MISTRAL: ToolFormat = {
  ...HERMES,
  name: "mistral",
  begin: "[TOOL_CALLS]",
  separator: ", ",
  close: "]",
  end: "",
  between: "",
};

const MISTRAL_NAMED: ToolFormat = {
  ...HERMES,
  name: "mistral-named",
  begin: "[TOOL_CALLS]",
  open: "",
  close: "",
  end: "",
  before: (name) => `${name}[ARGS]`,
  after: "",
  inner: ["[ARGS]", "[CALL_ID]"],
  between: "",
};

/** The format of a template, from its source. */
export function toolFormatOf(template: string): ToolFormat {
  if (!/\btools\b/.test(template)) return DESCRIBED;
  if (template.includes("[TOOL_CALLS]")) {
    if (template.includes("[ARGS]")) return MISTRAL_NAMED;
    return { ...MISTRAL, open: template.includes("[TOOL_CALLS] [") ? " [" : "[" };
  }
  if (template.includes("<tool_call>")) return /<function=|<arg_key>/.test(template) ? DESCRIBED : HERMES;
  if (/["']parameters\\?["']: /.test(template) && /<\|python_tag\|>|ipython/.test(template)) return LLAMA;
  return DESCRIBED;
}
