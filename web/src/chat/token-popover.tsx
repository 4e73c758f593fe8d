// What else could have been said: the likeliest tokens at the place the pointer, or the arrow
// keys, are at.

import { signal } from "@preact/signals";
import type { TokenProbability } from "../session/document.js";
import { announce } from "../ui/announce.js";

interface Shown {
  readonly token: TokenProbability;
  /** Of the token on the screen, px. */
  readonly left: number;
  readonly top: number;
  readonly bottom: number;
}

const shown = signal<Shown | null>(null);

/** Who reads along with the pointer does not mean to ask. */
const REST_MS = 300;
let timer = 0;

const WIDTH = 232;
const HEIGHT = 210;

/** Handlers for an element whose tokens are marked. */
export function tokenHandlers(probabilities: readonly TokenProbability[], restMs = REST_MS) {
  const spanAt = (target: EventTarget | null) => (target as Element | null)?.closest?.<HTMLElement>("[data-token]") ?? null;
  return {
    onPointerOver: (event: PointerEvent) => {
      const span = spanAt(event.target);
      hideTokens();
      if (span) timer = window.setTimeout(() => showAt(span, probabilities), restMs);
    },
    onPointerLeave: hideTokens,
    onBlur: hideTokens,
    onKeyDown: (event: KeyboardEvent) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const host = event.currentTarget as HTMLElement;
      if (step === undefined || event.target !== host) return;
      event.preventDefault();
      const spans = [...host.querySelectorAll<HTMLElement>("[data-token]")];
      const now = spans.findIndex((span) => span.classList.contains("active"));
      const next = spans[Math.max(0, Math.min(spans.length - 1, now + step))];
      spans[now]?.classList.remove("active");
      next?.classList.add("active");
      if (next) announce(words(showAt(next, probabilities)));
    },
  };
}

/** The same for an element whose tokens are looked through by keyboard, too. */
export function tokenExplorer(probabilities: readonly TokenProbability[]) {
  const label = "Token probabilities: left and right arrow keys";
  return { ...tokenHandlers(probabilities, 0), tabIndex: 0, role: "group" as const, "aria-label": label };
}

export function hideTokens(): void {
  window.clearTimeout(timer);
  shown.value = null;
}

export function TokenPopover() {
  const now = shown.value;
  if (!now) return null;
  const [text, logprob, others] = now.token;
  const rows = others.length > 0 ? others : [[text, logprob] as const];
  const above = now.bottom + HEIGHT > innerHeight && now.top > HEIGHT;
  const left = Math.max(8, Math.min(innerWidth - WIDTH - 8, now.left - 12));
  return (
    <div
      class="token-popover"
      aria-hidden="true"
      style={{ left: `${left}px`, ...(above ? { bottom: `${innerHeight - now.top + 6}px` } : { top: `${now.bottom + 6}px` }) }}
    >
      <p>
        <code>{visible(text)}</code> <b>{percent(logprob)}</b>
      </p>
      <ol>
        {rows.map(([other, value]) => (
          <li key={other} class={other === text ? "chosen" : ""}>
            <code>{visible(other)}</code>
            <span class="likely" style={{ "--share": Math.exp(value) }} />
            <span class="figure">{percent(value)}</span>
          </li>
        ))}
      </ol>
    </div>
  );
}

function showAt(span: HTMLElement, probabilities: readonly TokenProbability[]): TokenProbability | undefined {
  const token = probabilities[Number(span.dataset.token)];
  if (!token) return undefined;
  const { left, top, bottom } = span.getClientRects()[0] ?? span.getBoundingClientRect();
  shown.value = { token, left, top, bottom };
  return token;
}

function words(token: TokenProbability | undefined): string {
  if (!token) return "";
  const others = token[2].filter(([text]) => text !== token[0]).map(([text, value]) => `${visible(text)} ${percent(value)}`);
  return `${visible(token[0])}, ${percent(token[1])}. Others: ${others.join(", ")}`;
}

/** Spaces and line ends as signs. */
function visible(text: string): string {
  return text.replace(/ /g, "␣").replace(/\n/g, "⏎").replace(/\t/g, "⇥") || "∅";
}

function percent(logprob: number): string {
  const share = 100 * Math.exp(logprob);
  return share >= 99.95 ? "100 %" : share >= 0.1 ? `${share.toFixed(1)} %` : "< 0.1 %";
}
