// What a session holds, by how near it is to the model: pinned, word for word, summed up, or in the store alone.

import { $, ask, el, tell, when } from "./dom.js";
import { call, session } from "./api.js";

const WORDS = {
  rule: "rule", summary: "summary", system: "system prompt", recalled: "quoted again", memory: "from another session",
  noted: "noted in another session",
};
const TURNS = "Turns, word for word";
const TIERS = [
  ["Pinned, word for word", (item) => item.in_context && item.kind === "rule" && item.pinned],
  ["Rules that were found", (item) => item.in_context && item.kind === "rule" && !item.pinned],
  ["Summary", (item) => item.in_context && item.kind === "summary"],
  ["Brought back", (item) => item.in_context && ["recalled", "memory", "noted"].includes(item.kind)],
  [TURNS, (item) => item.in_context && ["message", "system"].includes(item.kind)],
  ["In the store alone", (item) => !item.in_context && item.kind !== "recalled"],
];

export const speaker = (item) => (item.kind === "message" ? item.role : WORDS[item.kind] ?? item.kind);

export function tiers(state, act) {
  const before = new Map([...$("tiers").querySelectorAll("details")].map((node) => [node.dataset.tier, node.open]));
  const shown = [];
  for (const [title, belongs] of TIERS) {
    const items = state.items.filter(belongs);
    if (!items.length) continue;
    const details = el("details", { className: "tier", open: before.get(title) ?? title !== TURNS },
      el("summary", {}, `${title} (${items.length})`), ...items.map((item) => line(state, item, act)));
    details.dataset.tier = title;
    shown.push(details);
  }
  $("tiers").replaceChildren(...shown.length ? shown : [el("p", { className: "soft" }, "Nothing yet.")]);
}

function line(state, item, act) {
  const from = item.of ? ` · session ${item.of.session}, ${item.of.first} to ${item.of.last}` : "";
  const buttons = [];
  const button = (label, run, danger) => buttons.push(
    el("button", { id: `${label.toLowerCase().replace(" ", "-")}-${item.n}`, className: `quiet small${danger ? " danger" : ""}`, onclick: run }, label));
  button("Life", () => life(state.name, item));
  if (item.kind === "message" && item.role === "user") button("Pin", () => pin(state.name, item, act));
  if (["rule", "summary"].includes(item.kind)) button("Edit", () => edit(state.name, item, act));
  if (!item.in_context && item.text && !item.of) button("Bring back", () => act("POST", session(state.name, `/memories/${item.n}/back`), {}));
  button("Forget", () => forget(state.name, item, act), true);
  return el("div", { className: "item", id: `item-${item.n}` },
    el("span", { className: "soft small" }, `${item.n} · ${speaker(item)}${from}${item.created ? ` · ${when(item.created)}` : ""}`),
    el("p", {}, item.text), el("div", { className: "row" }, ...buttons));
}

export async function pin(name, item, act) {
  const text = await ask("Keep as a rule, word for word", [
    el("label", { htmlFor: "rule" }, "It stays through every compaction."),
    el("textarea", { id: "rule", name: "rule", rows: 4, value: item.text, required: true }),
  ], { yes: "Pin", read: (form) => form.elements.rule.value.trim() });
  if (text) await act("POST", session(name, "/pins"), { text, sources: [item.n] });
}

async function edit(name, item, act) {
  const text = await ask("In other words", [
    el("textarea", { name: "words", rows: 6, value: item.text, required: true, "aria-label": "New words" }),
  ], { yes: "Save", read: (form) => form.elements.words.value.trim() });
  if (text) await act("PATCH", session(name, `/memories/${item.n}`), { text });
}

export async function forget(name, item, act) {
  const sure = await ask("Forget this?", [
    el("pre", {}, item.text),
    el("p", {}, "It is deleted everywhere, with all that was made from it, and cannot be had back. Replies may quote it in their own words."),
  ], { yes: "Forget", danger: true });
  if (sure) await act("DELETE", session(name, `/memories/${item.n}`));
}

export async function life(name, item) {
  const found = await call("GET", session(name, `/memories/${item.n}`));
  tell(`${found.address}: ${found.role || found.kind}`,
    el("pre", {}, found.text),
    el("p", { className: "soft" }, `Said ${when(found.created)}.`),
    ...found.compactions.map((each) => el("p", {}, `${when(each.when)}, ${each.strategy}: ${each.status.replace("_", " ")}${each.found_in.length ? `, in ${each.found_in.join(", ")}` : ""}.`)),
    ...found.heirs.map((heir) => el("p", {}, `Went into ${heir.kind} ${heir.n}: ${heir.text.slice(0, 200)}`)),
    el("p", {}, "It can still be found:"), el("ul", {}, ...found.found.map((place) => el("li", {}, place))));
}
