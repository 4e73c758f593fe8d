// Free text: the person and the model write one text. The model goes on from its end; what it
// wrote last can be taken back, or written again.

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { page } from "../page-data.js";
import { streamText } from "../server/completions.js";
import { titleFrom } from "../session/content.js";
import type { TokenProbability } from "../session/document.js";
import type { OpenSession } from "../session/open-session.js";
import { announceAnswer, announceEnd } from "../ui/announce.js";
import { Icon } from "../ui/icon.js";
import { exclusively, failures, workOf } from "./answering.js";
import { counted } from "./counted.js";
import { fitText } from "./fit.js";
import { tokenExplorer } from "./token-popover.js";
import { level } from "./token-spans.js";

interface LastPiece {
  /** The text before it. */
  readonly before: string;
  readonly tokens: readonly TokenProbability[];
  readonly figures: string;
}

export function FreeText({ session }: { session: OpenSession }) {
  const content = session.content.value;
  const last = useSignal<LastPiece | null>(null);
  const area = useRef<HTMLTextAreaElement>(null);
  const busy = workOf(session).value !== null;
  const failure = failures.value?.session === session.id ? failures.value : null;
  useEffect(() => {
    if (busy && area.current) area.current.scrollTop = area.current.scrollHeight;
  }, [content.text, busy]);
  const write = (text: string) => session.update((now) => ({ ...now, text, title: now.title || titleFrom(text) }));
  const goOn = () => void continueText(session, (piece) => (last.value = piece));
  const undo = () => {
    write(last.peek()!.before);
    last.value = null;
  };
  const again = () => {
    undo();
    goOn();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    if (!busy) goOn();
  };
  return (
    <div class="free">
      <textarea
        ref={area}
        class="free-text"
        aria-label="Text"
        placeholder="Begin, and let the model go on."
        value={content.text}
        readOnly={busy}
        spellcheck={false}
        onInput={(event) => write(event.currentTarget.value)}
        onKeyDown={onKeyDown}
      />
      {last.value && last.value.tokens.length > 0 && <LastTokens tokens={last.value.tokens} />}
      {failure && (
        <p class="failure" role="alert">
          {failure.message}
        </p>
      )}
      <div class="free-actions">
        {busy ? (
          <button type="button" class="button" onClick={() => workOf(session).peek()?.stop()}>
            <Icon name="stop" /> Stop
          </button>
        ) : (
          <button type="button" class="button primary" title="Ctrl+Enter" disabled={content.text === ""} onClick={goOn}>
            <Icon name="right" /> Continue
          </button>
        )}
        <button type="button" class="button" disabled={busy || !last.value} onClick={again}>
          <Icon name="again" /> Again
        </button>
        <button type="button" class="button" disabled={busy || !last.value} onClick={undo}>
          <Icon name="undo" /> Take back
        </button>
        <span class="figures">{last.value?.figures}</span>
      </div>
    </div>
  );
}

/** What the model has just written, token by token. */
function LastTokens({ tokens }: { tokens: readonly TokenProbability[] }) {
  return (
    <details class="last-tokens">
      <summary>Token probabilities of the last piece</summary>
      <div class="said tinted" {...tokenExplorer(tokens)}>
        {tokens.map(([text, logprob], index) => (
          <span key={index} class={`token p${level(logprob)}`} data-token={index}>
            {text}
          </span>
        ))}
      </div>
    </details>
  );
}

async function continueText(session: OpenSession, done: (piece: LastPiece) => void): Promise<void> {
  const before = session.content.peek().text;
  const tokens: TokenProbability[] = [];
  let text = "";
  const show = () => session.update((content) => ({ ...content, text: before + text }));
  failures.value = null;
  await exclusively(session, async (signal) => {
    announceAnswer("The model");
    try {
      const prompt = await fitText(session.content.peek(), page.peek()!.plan.context, counted);
      const end = await streamText(prompt, {
        model: page.peek()!.model,
        settings: session.content.peek().settings,
        stop: [],
        signal,
        onPiece: (piece) => {
          text += piece.text;
          tokens.push(...piece.probabilities);
          show();
          announceEnd(text, null);
        },
      });
      done({ before, tokens, figures: `${end.tokens} tokens · ${end.tokensPerSecond.toFixed(0)} tok/s` });
      announceEnd(text, "Finished.");
    } catch (error) {
      done({ before, tokens, figures: "stopped" });
      throw error;
    }
  });
}
