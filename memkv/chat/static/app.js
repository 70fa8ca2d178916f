// The page: one state, drawn anew from what the server says after every change.

import { $, ask, banner, bytes, el, when } from "./dom.js";
import { Failed, call, download, every, reply, session, setToken, upload } from "./api.js";
import { meter } from "./meter.js";
import { tiers } from "./tiers.js";
import { WRONG, inWords, timeline } from "./timeline.js";
import { why } from "./why.js";
import { account, exchange, messages } from "./talk.js";

const STRATEGIES = ["", "pinned+trained", "trained", "pinned+summary", "summary", "pinned", "truncate"];
const CODECS = ["", "identity", "int8", "int4", "fp8"];
const TABS = ["tiers", "timeline", "why"];

let status = null; // of the server
let state = null; // the open session: name, view, items, events, why
let running = null; // what stops the answer that is being written
let visit = 0; // counts the sessions that were gone to: what was asked for in an earlier visit is not drawn

async function start() {
  try {
    status = await call("GET", "/api/status");
  } catch (error) {
    if (error.status !== 401) return failed(error);
    const token = await ask("This server asks for a token", [
      el("label", { htmlFor: "token" }, "Whoever runs it has one for you. It stays in this tab."),
      el("input", { id: "token", name: "token", type: "password", required: true, autocomplete: "off" }),
    ], { yes: "Open", read: (form) => form.elements.token.value.trim() });
    if (!token) return failed(error);
    setToken(token);
    return start();
  }
  $("where").textContent = `${status.model} · ${status.tenant}`;
  await list();
  await go();
}

let listed = 0;

async function list() {
  const query = $("search").value.trim();
  const mine = ++listed;
  const found = await call("GET", `/api/sessions?limit=1000${query ? `&q=${encodeURIComponent(query)}` : ""}`);
  if (mine !== listed) return;
  $("session-list").replaceChildren(...found.map((each) => el("li", {},
    el("a", { id: `session-${each.name}`, href: `#/${encodeURIComponent(each.name)}`, "aria-current": state?.name === each.name ? "page" : null },
      el("strong", {}, each.name), el("span", {}, each.title || "nothing said yet"),
      el("span", {}, `${when(each.updated)} · ${bytes(each.cache_bytes)} at rest`)))));
  if (!found.length) $("session-list").append(el("li", { className: "soft small" }, query ? "Nowhere." : "No sessions yet."));
}

// The session that the address names.
async function go() {
  const name = decodeURIComponent(location.hash.replace(/^#\/?/, ""));
  const mine = ++visit;
  running?.abort();
  running = null;
  busy(false);
  banner("");
  $("account").textContent = "";
  if (!name) return nothing();
  unfold("sessions", false);
  try {
    await show(name, mine);
    await open(name, false, mine);
  } catch (error) {
    if (mine !== visit) return;
    if (error.status === 404) nothing();
    failed(error);
  }
}

function nothing() {
  state = null;
  for (const id of ["session-head", "say", "memory"]) $(id).hidden = true;
  $("welcome").hidden = false;
  $("messages").replaceChildren();
  document.title = "memkv";
}

// Draw a session from what the server has, if it is still the one that was gone to.
async function show(name, mine = visit) {
  const [view, stored, events, reasons] = await Promise.all([
    call("GET", session(name)), every(session(name, "/memories")),
    call("GET", session(name, "/events?limit=1000")), call("GET", session(name, "/why")),
  ]);
  if (mine !== visit) return;
  const context = new Map(view.context.map((item) => [item.n, item]));
  const items = stored.map((item) => ({ ...item, ...(context.get(item.n) ?? {}) }));
  state = { name, view, items, events, why: reasons };
  document.title = `${name} · memkv`;
  $("session-name").textContent = name;
  for (const id of ["session-head", "say", "memory"]) $(id).hidden = false;
  $("welcome").hidden = true;
  $("retry").hidden = !items.some((item) => item.kind === "message");
  const focused = document.activeElement?.id;
  messages(state, act);
  meter(view);
  tiers(state, act);
  timeline(state, act);
  why(state, act);
  await list();
  if (focused && document.activeElement === document.body) $(focused)?.focus();
}

// Its cache into memory; says how it came up.
async function open(name, rebuild, mine = visit) {
  try {
    const view = await call("POST", session(name, "/open"), { rebuild });
    if (mine !== visit) return;
    state.view = view;
    meter(view);
    const { how, reason, reused_tokens: reused, prefilled_tokens: read, seconds } = view.opened;
    if (how === "restored") $("account").textContent = `${reused} tokens restored from ${bytes(view.stored_bytes)} in ${Math.round(seconds * 1000)} ms, none read again`;
    if (how === "rebuilt") banner(`The stored cache could not be used (${reason}). ${read} tokens were read again from the text.`);
  } catch (error) {
    if (mine !== visit) return;
    if (error.code === "other_model") banner(error.message, "Read the text again", () => open(name, true).then(() => show(name)).catch(failed));
    else if (error.code !== "session_busy") throw error;
  }
}

async function say(text, more = {}) {
  if (running || !text.trim() || !state) return;
  const name = state.name, mine = visit, before = state.items.at(-1)?.n ?? 0;
  banner("");
  const add = exchange(text);
  const own = new AbortController();
  running = own;
  busy(true);
  try {
    const found = await reply({ model: status.model, session: name, messages: [{ role: "user", content: text }], ...more }, {
      onText: add, signal: own.signal,
      onRead: (read, of) => { if (mine === visit) $("account").textContent = `reading ${read} of ${of} tokens`; },
    });
    if (mine !== visit) return;
    account(found);
    const wrong = (found.session?.events ?? []).filter((event) => WRONG.includes(event.kind));
    if (wrong.length) banner(wrong.map(inWords).join(" "));
  } catch (error) {
    if (mine !== visit) return;
    // A stopped answer is kept, or taken back, when the session takes requests again.
    if (error.name === "AbortError") await call("POST", session(name, "/open"), {}).catch(() => null);
    else failed(error);
  } finally {
    if (running === own) { running = null; busy(false); }
  }
  if (mine !== visit) return;
  try { await show(name, mine); } catch (error) { failed(error); }
  // What was not kept goes back to where it was typed.
  const kept = state?.items.some((item) => item.n > before && item.role === "user" && item.text === text);
  if (mine === visit && !kept && !$("text").value) $("text").value = text;
  if ([document.body, $("send"), $("stop")].includes(document.activeElement)) $("text").focus();
}

async function retry() {
  if (running) return;
  const own = new AbortController();
  running = own; // nothing else is sent meanwhile
  busy(true);
  let text = null;
  try {
    text = (await call("DELETE", session(state.name, "/turns/last"))).text;
    await show(state.name);
  } catch (error) { failed(error); }
  if (running !== own) return;
  running = null;
  busy(false);
  if (text !== null) await say(text, { temperature: 0.8, top_p: 0.95, seed: Math.floor(Math.random() * 2 ** 31) });
}

// Ask the server for a change of the session, and draw what came of it.
async function act(method, path, body, redraw = true) {
  try {
    const found = await call(method, path, body);
    if (redraw) await show(state.name);
    return found;
  } catch (error) { failed(error); return null; }
}

function busy(on) {
  $("send").hidden = on;
  $("stop").hidden = !on;
  $("retry").disabled = on;
}

function failed(error) {
  banner(error instanceof Failed ? error.message : `The server cannot be reached (${error.message}). What was said is in the store.`, "Try again", () => { banner(""); start(); });
}

async function begin() {
  const now = new Date();
  const two = (number) => String(number).padStart(2, "0");
  const name = `chat-${now.getFullYear()}${two(now.getMonth() + 1)}${two(now.getDate())}-${two(now.getHours())}${two(now.getMinutes())}${two(now.getSeconds())}`;
  const choice = (id, values, first) => el("select", { id, name: id }, ...values.map((value) => el("option", { value }, value || first)));
  const asked = await ask("A new session", [
    el("label", { htmlFor: "name" }, "Name"), el("input", { id: "name", name: "name", value: name, required: true, maxLength: 128 }),
    el("label", { htmlFor: "system" }, "System prompt"), el("textarea", { id: "system", name: "system", rows: 3 }),
    el("label", { htmlFor: "budget" }, "Most bytes of live cache"), el("input", { id: "budget", name: "budget", placeholder: "64 MiB" }),
    el("label", { htmlFor: "strategy" }, "How to compact"), choice("strategy", STRATEGIES, "the best for this model"),
    el("label", { htmlFor: "codec" }, "How the cache is stored"), choice("codec", CODECS, "as it is"),
  ], { yes: "Begin", read: (form) => Object.fromEntries(new FormData(form)) });
  if (!asked) return;
  const given = { name: asked.name.trim(), system: asked.system, context_budget: asked.budget.trim(), strategy: asked.strategy, codec: asked.codec };
  try {
    await call("POST", "/api/sessions", Object.fromEntries(Object.entries(given).filter(([, value]) => value)));
    location.hash = `#/${encodeURIComponent(given.name)}`;
  } catch (error) { failed(error); }
}

async function forgetSession() {
  const name = state.name;
  const sure = await ask(`Forget session ${name}?`, [
    el("p", {}, "All that was said in it is deleted, with its caches and what other sessions took in of it. It cannot be had back."),
  ], { yes: "Forget", danger: true });
  if (!sure) return;
  try {
    await call("DELETE", session(name));
    location.hash = "";
    await list();
  } catch (error) { failed(error); }
}

async function save() {
  try {
    const url = URL.createObjectURL(await download(session(state.name, "/export")));
    el("a", { href: url, download: `${state.name}.memkv` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  } catch (error) { failed(error); }
}

async function take(event) {
  const [file] = event.target.files;
  event.target.value = "";
  let name = "";
  while (file) {
    try {
      const view = await upload(file, name);
      location.hash = `#/${encodeURIComponent(view.name)}`;
      return;
    } catch (error) {
      if (error.status !== 409) return failed(error);
      name = await ask("There is a session of that name", [
        el("label", { htmlFor: "other" }, "Import it as"), el("input", { id: "other", name: "other", required: true, maxLength: 128 }),
      ], { yes: "Import", read: (form) => form.elements.other.value.trim() });
      if (!name) return;
    }
  }
}

function unfold(part, on) {
  $(part).classList.toggle("shown", on);
  $(`show-${part}`).setAttribute("aria-expanded", String(on));
}

function choose(tab) {
  for (const each of TABS) {
    const on = each === tab;
    $(each).hidden = !on;
    $(`tab-${each}`).setAttribute("aria-selected", String(on));
    $(`tab-${each}`).tabIndex = on ? 0 : -1;
  }
}

for (const [place, tab] of TABS.entries()) {
  $(`tab-${tab}`).addEventListener("click", () => choose(tab));
  $(`tab-${tab}`).addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: TABS.length - 1 }[event.key];
    if (!step) return;
    const next = TABS[(place + step) % TABS.length];
    choose(next);
    $(`tab-${next}`).focus();
  });
}
for (const [button, part] of [["show-sessions", "sessions"], ["show-memory", "memory"]]) {
  $(button).addEventListener("click", () => unfold(part, !$(part).classList.contains("shown")));
}
$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value;
  if (running || !text.trim()) return;
  $("text").value = "";
  say(text);
});
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); $("say").requestSubmit(); }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running && !$("dialog").open) running.abort();
  if (event.key === "k" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); $("search").focus(); }
});
let typed;
$("search").addEventListener("input", () => { clearTimeout(typed); typed = setTimeout(() => list().catch(failed), 200); });
$("stop").addEventListener("click", () => running?.abort());
$("retry").addEventListener("click", retry);
$("new").addEventListener("click", begin);
$("first").addEventListener("click", begin);
$("export").addEventListener("click", save);
$("forget-session").addEventListener("click", forgetSession);
$("import").addEventListener("click", () => $("import-file").click());
$("import-file").addEventListener("change", take);
window.addEventListener("hashchange", go);
start();
