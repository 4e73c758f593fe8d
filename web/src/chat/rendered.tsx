// Text as it is shown: Markdown in pieces, of which only the last is drawn anew while an answer
// grows, with a button on each piece of code and, where they are known, marks on each token.

import type { Token } from "marked";
import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import type { TokenProbability } from "../session/document.js";
import { copy } from "../ui/copy.js";
import { blocksOf, renderBlock } from "./markdown.js";
import { markTokens, tokensOfText } from "./token-spans.js";

interface RenderedProps {
  readonly text: string;
  readonly probabilities?: readonly TokenProbability[] | undefined;
}

export function Rendered({ text, probabilities }: RenderedProps) {
  const blocks = useMemo(() => blocksOf(text), [text]);
  const owner = probabilities && probabilities.length > 0 ? tokensOfText(text, probabilities) : null;
  let at = 0;
  return (
    <div class="prose">
      {blocks.map((block, index) => {
        const start = Math.max(at, text.indexOf(block.raw.trimEnd().slice(0, 64), at));
        at = start + block.raw.trimEnd().length;
        const tokens = owner ? owner.subarray(start, at) : null;
        return <Piece key={index} block={block} tokens={tokens} probabilities={probabilities ?? []} />;
      })}
    </div>
  );
}

interface PieceProps {
  readonly block: Token;
  /** For each character of the block's source, its token. */
  readonly tokens: Int32Array | null;
  readonly probabilities: readonly TokenProbability[];
}

function Piece({ block, tokens, probabilities }: PieceProps) {
  const place = useRef<HTMLDivElement>(null);
  const lastToken = tokens?.at(-1);
  useLayoutEffect(() => {
    const fragment = renderBlock(block);
    if (tokens) markTokens(fragment, block.raw, tokens, probabilities);
    for (const pre of fragment.querySelectorAll("pre")) addCopyButton(pre);
    place.current?.replaceChildren(fragment);
    // A piece is its source and its tokens; both only grow.
  }, [block.raw, tokens?.length, lastToken]);
  return <div ref={place} class="piece" />;
}

function addCopyButton(pre: HTMLPreElement): void {
  const frame = document.createElement("div");
  frame.className = "code";
  pre.replaceWith(frame);
  const code = pre.querySelector("code");
  const head = document.createElement("div");
  head.className = "code-head";
  const language = /language-([\w+#.-]+)/.exec(code?.className ?? "")?.[1];
  const name = document.createElement("span");
  name.textContent = language ?? "code";
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button quiet small";
  button.textContent = "Copy";
  button.addEventListener("click", () => void copy(pre.textContent ?? ""));
  head.append(name, button);
  pre.tabIndex = 0; // long lines are scrolled to by keyboard
  pre.setAttribute("role", "region");
  pre.setAttribute("aria-label", language ? `Code, ${language}` : "Code");
  frame.append(head, pre);
}
