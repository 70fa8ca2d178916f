// Nodes and words. Text only ever goes in as text: nothing that anybody said is read as HTML.

export const $ = (id) => document.getElementById(id);

export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && name !== "list") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function bytes(count) {
  let value = count, unit = 0;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  while (Math.abs(value) >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${unit === 0 ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 2)} ${units[unit]}`;
}

export const percent = (share) => `${Math.round(share * 100)}%`;

export function when(seconds) {
  const date = new Date(seconds * 1000);
  const today = new Date().toDateString() === date.toDateString();
  return date.toLocaleString([], today ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" });
}

// A dialog that asks; resolves to what `read` makes of its form, or null if it was closed.
export function ask(title, body, { yes = "OK", danger = false, read = () => true } = {}) {
  return new Promise((resolve) => {
    const dialog = $("dialog");
    let answer = null;
    const form = el("form", { method: "dialog", onsubmit: () => { answer = read(form); } },
      el("h2", {}, title), ...body,
      el("div", { className: "row end" },
        el("button", { type: "button", className: "quiet", onclick: () => dialog.close() }, "Cancel"),
        el("button", { type: "submit", className: danger ? "quiet danger" : "" }, yes)));
    dialog.setAttribute("aria-label", title);
    dialog.replaceChildren(form);
    dialog.onclose = () => resolve(answer);
    dialog.showModal();
  });
}

export function tell(title, ...body) {
  const dialog = $("dialog");
  dialog.replaceChildren(el("div", { className: "column" }, el("h2", {}, title), ...body,
    el("div", { className: "row end" }, el("button", { onclick: () => dialog.close() }, "Close"))));
  dialog.setAttribute("aria-label", title);
  dialog.onclose = null;
  dialog.showModal();
}

export function banner(text, action, run) {
  const place = $("banner");
  place.hidden = !text;
  if (!text) return;
  place.replaceChildren(el("span", {}, text),
    action && el("button", { className: "small", onclick: run }, action),
    el("button", { className: "quiet small", onclick: () => { place.hidden = true; } }, "Close"));
}
