// An answer's Markdown as safe document fragments. Raw HTML in it stays text, images become
// links (a picture's address could carry the conversation away), and what is left passes a
// sanitiser with a short list of what may be there.

import DOMPurify from "dompurify";
import { Marked, type Token } from "marked";

const SAFE = {
  ALLOWED_TAGS: "p strong em del code pre blockquote ul ol li table thead tbody tr th td a br hr h3 h4 h5 h6".split(" "),
  ALLOWED_ATTR: ["href", "start", "class"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
};

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html: ({ text }) => escapeHtml(text),
    image: ({ href, text }) => `<a href="${escapeHtml(href)}">${escapeHtml(text || "picture")}</a>`,
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    // The page's own headings come first.
    heading({ tokens, depth }) {
      const level = Math.min(6, depth + 2);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>\n`;
    },
  },
});

/** Top-level pieces of a text; all but the last stay the same while it grows. */
export function blocksOf(text: string): Token[] {
  return marked.lexer(text).filter(({ type }) => type !== "space" && type !== "def");
}

export function renderBlock(block: Token): DocumentFragment {
  const fragment = DOMPurify.sanitize(marked.parser([block]), { ...SAFE, RETURN_DOM_FRAGMENT: true });
  for (const link of fragment.querySelectorAll("a[href]")) {
    link.setAttribute("target", "_blank");
    link.setAttribute("rel", "noopener noreferrer");
  }
  return fragment;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);
}
