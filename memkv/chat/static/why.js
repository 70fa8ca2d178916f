// Which memories the last answer had before it: from where, of which day, how near, how many bytes.

import { $, bytes, el, percent, when } from "./dom.js";
import { forget } from "./tiers.js";

export function why(state, act) {
  const { memories, too_large: large } = state.why;
  const shown = memories.map((each) => {
    const item = state.items.find((one) => one.n === each.n);
    const place = each.session
      ? el("a", { href: `#/${encodeURIComponent(each.session)}` }, `session ${each.session}`)
      : el("span", {}, "this session");
    return el("div", { className: "item" },
      el("span", { className: "small soft" }, place, `, ${each.first} to ${each.last}${each.said ? `, ${when(each.said)}` : ""}`),
      el("p", {}, item?.text ?? ""),
      el("span", { className: "small soft" }, [`score ${percent(each.score)}`, each.nbytes === null ? "" : bytes(each.nbytes), `came as ${each.came}`, ...each.voices].filter(Boolean).join(" · ")),
      each.why ? el("p", { className: "small soft" }, each.why) : null,
      item && el("div", { className: "row" }, el("button", { className: "quiet small danger", onclick: () => forget(state.name, item, act) }, "Forget here")));
  });
  for (const data of large) {
    shown.push(el("div", { className: "item" }, el("p", {}, `Near, and too large to come back: session ${data.of.session}, ${bytes(data.bytes)} where ${bytes(data.room)} are free.`)));
  }
  $("why").replaceChildren(...shown.length ? shown : [el("p", { className: "soft" }, "The last answer had nothing but this conversation before it.")]);
}
