// What happened, the latest first; of a compaction each source beside what became of it.

import { $, bytes, el, percent, tell, when } from "./dom.js";
import { session } from "./api.js";
import { speaker } from "./tiers.js";

const LABELS = {
  verbatim: "verbatim", paraphrased: "in the summary", store_only: "only in the store", dropped: "dropped", unknown: "unsure",
};
const TRIGGERS = { budget: "over the budget", positions: "no positions left", request: "by hand" };
const SAID = {
  recalled: (data) => `Brought back ${data.of ? `from session ${data.of.session}` : `item ${data.from}`}, score ${percent(data.score)}`,
  pinned: (data) => `Pinned as item ${data.memory}`,
  edited: (data) => `Item ${data.memory} in other words: item ${data.into}`,
  undone: (data) => `Compaction taken back: ${bytes(data.after)} of cache`,
  forgot: (data) => `Forgot item ${data.memory ?? ""}${data.derived?.length ? ` and ${data.derived.join(", ")}, made from it` : ""}`,
  rebuilt: (data) => `Read again from the text, ${data.tokens} tokens: ${data.reason}`,
  codec_refused: (data) => `Stored as it is: ${data.error}`,
  compaction_failed: (data) => `Over the budget, and compaction failed: ${data.error}`,
  memories_failed: (data) => `Nothing of earlier sessions could be brought back: ${data.error}`,
  memories_left: (data) => `Too large to bring back: session ${data.of.session}, ${bytes(data.bytes)}`,
};
export const WRONG = ["rebuilt", "codec_refused", "compaction_failed", "memories_failed"];
export const inWords = (event) => SAID[event.kind]?.(event.data) ?? event.kind;

export function timeline(state, act) {
  const undone = new Set(state.events.filter((event) => event.kind === "undone").map((event) => event.data.compaction));
  const last = state.events.findLast((event) => event.kind === "compaction");
  const open = new Set([...$("timeline").querySelectorAll("details[open]")].map((node) => node.dataset.seq));
  const shown = state.events.filter((event) => event.kind !== "turn").reverse().map((event) => {
    if (event.kind !== "compaction") {
      return el("div", { className: `event${WRONG.includes(event.kind) ? " wrong" : ""}` },
        el("span", { className: "soft small" }, when(event.created)), el("p", {}, inWords(event)));
    }
    const undo = event === last && !undone.has(event.seq) && event.data.context;
    return compaction(state, event, open.has(String(event.seq)), undo, act);
  });
  $("timeline").replaceChildren(
    el("div", { className: "row" },
      el("button", { className: "small", onclick: () => act("POST", session(state.name, "/compactions"), {}) }, "Compact now"),
      el("button", { className: "quiet small", onclick: () => preview(state, act) }, "Preview")),
    ...shown.length ? shown : [el("p", { className: "soft" }, "Nothing moved yet. When the cache outgrows its budget, it is compacted, and you see here what that keeps.")]);
}

function compaction(state, event, open, undo, act) {
  const data = event.data;
  const lost = data.ledger.filter((entry) => entry.status !== "verbatim").length;
  const details = el("details", { open },
    el("summary", {}, `${lost} of ${data.ledger.length} items lost their words there`), losses(state, data.ledger, act));
  details.dataset.seq = event.seq;
  return el("div", { className: "event compaction" },
    el("span", { className: "soft small" }, `${when(event.created)} · ${TRIGGERS[data.trigger] ?? ""}`),
    el("p", {}, `Compacted by ${data.strategy}: ${bytes(data.before)} → ${bytes(data.after)}${data.seconds === undefined ? "" : ` in ${data.seconds} s`}`),
    undo && el("button", { className: "quiet small", onclick: () => act("DELETE", session(state.name, "/compactions/last")) }, "Undo"),
    details);
}

// Source beside what holds it now.
function losses(state, ledger, act) {
  const items = new Map(state.items.map((item) => [item.n, item]));
  const rows = ledger.map((entry) => {
    const source = items.get(entry.memory);
    const heirs = entry.found_in.filter((n) => n !== entry.memory).map((n) => items.get(n)?.text ?? "");
    const back = source && !source.in_context && source.text && !source.of;
    return el("tr", {},
      el("td", {}, source ? `${entry.memory} ${speaker(source)}: ${source.text.slice(0, 400)}` : `${entry.memory}: forgotten since`),
      el("td", {}, heirs.join("\n").slice(0, 400)),
      el("td", {},
        el("span", { className: `label ${entry.status}` }, LABELS[entry.status] ?? entry.status),
        entry.probability !== null && entry.status !== "verbatim" ? el("div", { className: "soft" }, `kept with ${percent(entry.probability)}`) : null,
        back && el("button", { className: "quiet small", onclick: () => act("POST", session(state.name, `/memories/${source.n}/back`), {}) }, "Bring back")));
  });
  return el("table", {}, el("thead", {}, el("tr", {}, el("th", {}, "Source"), el("th", {}, "Now"), el("th", {}, "Became"))), el("tbody", {}, ...rows));
}

async function preview(state, act) {
  const found = await act("POST", session(state.name, "/compactions"), { preview: true }, false);
  if (!found) return;
  const made = found.context.filter((item) => ["rule", "summary"].includes(item.kind));
  const rows = losses({ ...state, items: [...state.items, ...found.context.filter((item) => !state.items.some((one) => one.n === item.n))] }, found.ledger, act);
  rows.querySelectorAll("button").forEach((button) => button.remove());
  tell("A compaction now", el("p", {}, `${bytes(found.before)} → ${bytes(found.after)}. Nothing was changed.`),
    ...made.map((item) => el("pre", {}, `${speaker(item)}: ${item.text}`)), rows);
}
