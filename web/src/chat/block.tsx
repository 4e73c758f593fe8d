// One block of a conversation: what was said, by whom, and what can be done with it.

import { useState } from "preact/hooks";
import type { SessionBlock } from "../session/document.js";
import type { OpenSession } from "../session/open-session.js";
import { change, removeFrom, removeOne, show, siblingsOf } from "../session/tree.js";
import { copy } from "../ui/copy.js";
import { IconButton } from "../ui/icon.js";
import { toast } from "../ui/toast.js";
import { regenerate, sayInstead, workOf } from "./answering.js";
import { BlockEditor } from "./block-editor.js";
import { Rendered } from "./rendered.js";
import { hideTokens, tokenExplorer, tokenHandlers } from "./token-popover.js";

interface BlockProps {
  readonly session: OpenSession;
  readonly block: SessionBlock;
  /** The model no longer sees what is above this block. */
  readonly firstSeen: boolean;
}

export function Block({ session, block, firstSeen }: BlockProps) {
  const [editing, setEditing] = useState(false);
  const [tinted, setTinted] = useState(false);
  const { mode, participants } = session.content.value;
  const human =
    mode === "chat" ? block.author === "user" : participants.some(({ name, human }) => human && name === block.author);
  const live = workOf(session).value?.live;
  const writing = live?.block === block.id ? live : null;
  const text = writing ? writing.text.trimStart() : block.text;
  const probabilities = writing ? writing.probabilities : block.probabilities;
  const name = authorName(block.author);
  const hasTokens = probabilities !== undefined && probabilities.length > 0;

  return (
    <>
      {firstSeen && <p class="cut">The model no longer sees what is above.</p>}
      <article class={`block ${human ? "mine" : "theirs"}`} aria-label={`${name} said`} data-block={block.id}>
        {(mode === "voices" || !human) && <p class="author">{name}</p>}
        {editing ? (
          <BlockEditor
            text={block.text}
            canAnswer={human}
            onSave={(changed) => {
              setEditing(false);
              session.update((content) => change(content, block.id, edited(changed)));
            }}
            onSend={(changed) => {
              setEditing(false);
              void sayInstead(session, block, changed);
            }}
            onCancel={() => setEditing(false)}
          />
        ) : (
          <div
            class={`said ${tinted ? "tinted" : ""}`}
            {...(!hasTokens ? {} : tinted ? tokenExplorer(probabilities) : tokenHandlers(probabilities))}
          >
            {text === "" && writing ? <Waiting /> : <Rendered text={text} probabilities={probabilities} />}
          </div>
        )}
        {block.answer?.error !== undefined && !writing && (
          <p class="failure" role="alert">
            {block.answer.error}
          </p>
        )}
        {!writing && !editing && (
          <footer class="block-foot">
            <Branches session={session} block={block} />
            <Figures block={block} />
            <span class="block-actions">
              <IconButton icon="copy" label="Copy" onClick={() => void copy(block.text)} />
              <IconButton icon="edit" label="Edit" onClick={() => setEditing(true)} />
              {!human && <IconButton icon="again" label="Answer again" onClick={() => void regenerate(session, block)} />}
              {hasTokens && (
                <IconButton
                  icon="chart"
                  label="Token probabilities"
                  pressed={tinted}
                  onClick={() => {
                    hideTokens();
                    setTinted(!tinted);
                  }}
                />
              )}
              <IconButton icon="trash" label="Delete this" onClick={() => removed(session, block, false)} />
              <IconButton icon="cut" label="Delete from here on" onClick={() => removed(session, block, true)} />
            </span>
          </footer>
        )}
      </article>
    </>
  );
}

function authorName(author: string): string {
  return author === "user" ? "You" : author === "assistant" ? "Model" : author;
}

/** A text that a person has changed has no probabilities any more. */
function edited(text: string): Partial<SessionBlock> {
  return { text, edited: new Date().toISOString(), probabilities: undefined, answer: undefined };
}

function removed(session: OpenSession, block: SessionBlock, everythingAfter: boolean): void {
  const before = session.content.peek();
  session.update((content) => (everythingAfter ? removeFrom(content, block.id) : removeOne(content, block.id)));
  const restore = () =>
    session.update((content) => ({ ...content, blocks: before.blocks, leaf: before.leaf, firstKept: before.firstKept }));
  toast(everythingAfter ? "Deleted from there on." : "Deleted.", restore);
}

function Branches({ session, block }: Pick<BlockProps, "session" | "block">) {
  const siblings = siblingsOf(session.content.value, block);
  if (siblings.length < 2) return null;
  const at = siblings.findIndex(({ id }) => id === block.id);
  const go = (step: number) => session.update((content) => show(content, siblings[at + step]!.id));
  return (
    <fieldset class="branches" aria-label="Versions">
      <IconButton icon="left" label="Earlier version" disabled={at === 0} onClick={() => go(-1)} />
      <span aria-live="off">
        {at + 1} / {siblings.length}
      </span>
      <IconButton icon="right" label="Later version" disabled={at === siblings.length - 1} onClick={() => go(1)} />
    </fieldset>
  );
}

function Figures({ block: { answer, edited } }: Pick<BlockProps, "block">) {
  if (!answer) return edited ? <span class="figures">edited</span> : null;
  const { tokens, tokensPerSecond, firstTokenMs, finish } = answer;
  const parts = [
    `${tokens} tokens`,
    ...(tokensPerSecond > 0 ? [`${tokensPerSecond.toFixed(tokensPerSecond < 10 ? 1 : 0)} tok/s`] : []),
    ...(firstTokenMs > 0
      ? [`first after ${firstTokenMs < 1000 ? `${Math.round(firstTokenMs)} ms` : `${(firstTokenMs / 1000).toFixed(1)} s`}`]
      : []),
    ...(finish === "length" ? ["cut at the limit"] : finish === "stopped" ? ["stopped"] : []),
  ];
  return <span class="figures">{parts.join(" · ")}</span>;
}

function Waiting() {
  return (
    <span class="dots" aria-hidden="true">
      <i />
      <i />
      <i />
    </span>
  );
}
