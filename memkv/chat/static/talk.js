// The conversation: what was said, and where it left the context.

import { $, bytes, el } from "./dom.js";
import { pin, speaker } from "./tiers.js";

export function messages(state, act) {
  const place = $("messages");
  // What is shown already stays where it is, so that a screen reader says what is new and nothing twice.
  const there = new Map([...place.children].filter((node) => node.dataset.key).map((node) => [node.dataset.key, node]));
  const shown = [];
  let left = false;
  for (const item of state.items) {
    if (!["message", "system"].includes(item.kind)) continue;
    if (left && item.in_context) shown.push(el("div", { className: "divider" }, "from here on word for word in the context"));
    left = !item.in_context;
    const key = JSON.stringify([state.name, item.n, item.text, item.in_context]);
    const node = there.get(key) ?? said(item, () => pin(state.name, item, act));
    node.dataset.key = key;
    shown.push(node);
  }
  for (const node of [...place.children]) if (!shown.includes(node)) node.remove();
  for (const [at, node] of shown.entries()) if (place.children[at] !== node) place.insertBefore(node, place.children[at] ?? null);
  place.scrollTop = place.scrollHeight;
}

function said(item, onPin) {
  const marks = [item.interrupted && "cut off", !item.in_context && "only in the store, or summed up"].filter(Boolean);
  const node = el("div", { className: `message ${item.kind === "system" ? "system" : item.role}${item.in_context ? "" : " left"}`, title: `${item.n}, ${speaker(item)}` }, item.text);
  if (marks.length) node.append(el("span", { className: "mark" }, marks.join(", ")));
  if (item.kind === "message" && item.role === "user") node.addEventListener("dblclick", onPin);
  return node;
}

// Two messages that are being exchanged; gives what adds to the answer.
export function exchange(text) {
  const answer = el("div", { className: "message assistant reading" });
  const place = $("messages");
  place.append(el("div", { className: "message user" }, text), answer);
  place.scrollTop = place.scrollHeight;
  return (piece) => {
    const atEnd = place.scrollHeight - place.scrollTop - place.clientHeight < 40;
    answer.append(piece);
    if (atEnd) place.scrollTop = place.scrollHeight;
  };
}

export function account(found) {
  const usage = found.usage;
  if (!usage) return;
  const parts = [
    `${usage.reused_tokens} tokens reused`,
    usage.spliced_tokens ? `${usage.spliced_tokens} taken in as cache` : "",
    `${usage.prompt_tokens - usage.prompt_tokens_details.cached_tokens} read, ${usage.completion_tokens} written`,
    `first token after ${found.first_token_seconds.toFixed(2)} s`,
    `cache ${bytes(usage.cache_bytes)}`,
  ];
  $("account").textContent = parts.filter(Boolean).join(" · ");
}
