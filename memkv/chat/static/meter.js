// Bytes: of the live cache by kind against its budget, at rest, and what the same would take otherwise.

import { $, bytes, el, percent } from "./dom.js";
import { call } from "./api.js";

const KINDS = { attention: "attention KV", latent: "latent KV", window: "sliding window", recurrent: "recurrent state", conv: "recurrent state" };
const COLOUR = { attention: "attention", latent: "attention", window: "window", recurrent: "recurrent", conv: "recurrent" };
const known = new Map(); // tokens -> bytes of the reference architectures

export async function meter(view) {
  const live = view.live;
  const used = live ? live.payload : 0;
  const bar = el("div", { className: "bar", role: "img", "aria-label": `${bytes(used)} of ${bytes(view.budget)}` });
  const parts = [];
  for (const [kind, size] of Object.entries(live?.by_kind ?? {})) {
    if (!size) continue;
    const part = el("i", { className: COLOUR[kind] ?? "other" });
    part.style.width = `${Math.min(100, (100 * size) / view.budget)}%`;
    bar.append(part);
    parts.push(el("dt", {}, el("span", { className: `key ${COLOUR[kind] ?? "other"}` }), KINDS[kind] ?? kind), el("dd", {}, bytes(size)));
  }
  const list = el("dl", {},
    ...parts,
    el("dt", {}, "Cache in use, of its budget"),
    el("dd", { id: "used" }, live ? `${bytes(used)} of ${bytes(view.budget)} (${percent(used / view.budget)})` : "in the store"),
    el("dt", {}, `At rest on disk (${view.codec})`), el("dd", {}, bytes(view.stored_bytes)),
    el("dt", {}, `All ${view.said_tokens} tokens that were said, uncompacted`), el("dd", {}, bytes(view.said_bytes)));
  const others = el("dl", { id: "references" });
  $("meter").replaceChildren(bar, list, el("details", { ontoggle: (event) => event.target.open && compare(live?.tokens ?? 0, others) },
    el("summary", { className: "small soft" }, `These ${live?.tokens ?? 0} tokens on other models, measured`), others));
}

async function compare(tokens, place) {
  if (!known.has(tokens)) {
    place.replaceChildren(el("dt", {}, "Measuring, some seconds the first time"));
    known.set(tokens, (await call("GET", `/api/reference?tokens=${tokens}`)).models);
  }
  place.replaceChildren(...Object.entries(known.get(tokens)).flatMap(([name, size]) => [el("dt", {}, name), el("dd", {}, bytes(size))]));
}
