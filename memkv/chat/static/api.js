// The server's two protocols. The token, where one is needed, stays in this tab.

const TOKEN = "memkv-token";

export class Failed extends Error {
  constructor(status, error) {
    super(error?.message ?? `The server answered ${status}.`);
    this.status = status;
    this.code = error?.code ?? null;
  }
}

export const setToken = (token) => sessionStorage.setItem(TOKEN, token);

function headers(more = {}) {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { Authorization: `Bearer ${token}`, ...more } : more;
}

async function checked(response) {
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new Failed(response.status, body.error);
}

// Where the session is at work for something else, it is asked again for a while.
export async function call(method, path, body, tries = 100) {
  const json = body === undefined ? {} : { body: JSON.stringify(body), headers: headers({ "Content-Type": "application/json" }) };
  try {
    const response = await checked(await fetch(path, { method, headers: headers(), ...json }));
    return response.status === 204 ? null : await response.json();
  } catch (error) {
    if (error.code !== "session_busy" || tries < 1) throw error;
    await new Promise((resolve) => setTimeout(resolve, 300));
    return call(method, path, body, tries - 1);
  }
}

export const session = (name, rest = "") => `/api/sessions/${encodeURIComponent(name)}${rest}`;

export async function download(path) {
  return (await checked(await fetch(path, { headers: headers() }))).blob();
}

export async function upload(file, name = "") {
  return (await checked(await fetch(`/api/imports${name ? `?name=${encodeURIComponent(name)}` : ""}`, { method: "POST", body: file, headers: headers({ "Content-Type": "application/octet-stream" }) }))).json();
}

// All pages of a list.
export async function every(path, size = 1000) {
  const found = [];
  for (;;) {
    const page = await call("GET", `${path}?limit=${size}&offset=${found.length}`);
    found.push(...page);
    if (page.length < size) return found;
  }
}

// A reply, piece by piece; gives what memkv says of it, and the usage.
export async function reply(body, { onText, onRead, signal }) {
  const response = await checked(await fetch("/v1/chat/completions", {
    method: "POST", signal, headers: headers({ "Content-Type": "application/json" }),
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
  }));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const account = {};
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return account;
    const lines = (rest + value).split("\n\n");
    rest = lines.pop();
    for (const line of lines) {
      const read = line.match(/^: read (\d+) of (\d+)/);
      if (read) onRead(Number(read[1]), Number(read[2]));
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
      const data = JSON.parse(line.slice(6));
      if (data.error) throw new Failed(500, data.error);
      const text = data.choices?.[0]?.delta?.content;
      if (text) onText(text);
      if (data.memkv) Object.assign(account, data.memkv);
      if (data.usage) account.usage = data.usage;
    }
  }
}
