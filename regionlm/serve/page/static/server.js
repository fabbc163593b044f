/** Questions to the server, and its answers and refusals in words. */

const TOKEN = "regionlm-token"; // kept until the tab is closed

/** A refusal or failure; `kind` is "gone", "busy", "token" or "refused". */
export class ServerError extends Error {
  constructor(kind, message, seconds = null) {
    super(message);
    this.kind = kind;
    this.seconds = seconds;
  }
}

export function keepToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

/** Ask a question whose answer is one JSON object. */
export async function ask(path, question, signal) {
  const reply = await post(path, question, signal);
  return await whole(reply.json());
}

/** A file of the page, as a blob. */
export async function load(path) {
  const reply = await whole(fetch(path));
  if (!reply.ok) throw refusal(reply.status);
  return await whole(reply.blob());
}

/** Ask for captions; yields {event, data} as the server sends them. */
export async function* stream(path, question, signal) {
  const reply = await post(path, { ...question, stream: true }, signal);
  for await (const { event, data } of events(reply.body)) {
    if (event === "error") throw refusal(reply.status, data?.error?.message);
    yield { event, data };
    if (event === "done") return;
  }
  throw new ServerError("gone", "The server stopped in the middle of its answer.");
}

/** Server-sent events with JSON data out of a stream of bytes. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await whole(reader.read());
    text = (text + (value ?? "")).replace(/\r\n/g, "\n");
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const found = readEvent(text.slice(0, end));
      text = text.slice(end + 2);
      if (found) yield found;
    }
    if (done) return;
  }
}

function readEvent(block) {
  const fields = { event: "message", data: [] };
  for (const line of block.split("\n")) {
    const [, name, value] = /^(event|data): ?(.*)$/.exec(line) ?? [];
    if (name === "event") fields.event = value;
    if (name === "data") fields.data.push(value);
  }
  return fields.data.length ? { event: fields.event, data: JSON.parse(fields.data.join("\n")) } : null;
}

async function post(path, question, signal) {
  const headers = { "Content-Type": "application/json" };
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  const request = { method: "POST", headers, body: JSON.stringify(question), signal };
  const reply = await whole(fetch(path, request));
  if (reply.ok) return reply;
  const said = await reply.json().catch(() => null);
  throw refusal(reply.status, said?.error?.message, reply.headers.get("Retry-After"));
}

/** What is promised, or a ServerError if the connection breaks; stopping on purpose is neither. */
async function whole(promise) {
  try {
    return await promise;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("gone", "The server does not answer. Is regionlm serve still running?");
  }
}

function refusal(status, said, seconds) {
  if (status === 401) return new ServerError("token", "This server asks for a token.");
  if (status === 429) {
    const wait = Math.max(1, Math.ceil(Number(seconds) || 1));
    return new ServerError("busy", "The server has too much to do.", wait);
  }
  if (status === 503) return new ServerError("busy", said ?? "The server is not ready.", 5);
  if (status === 504) return new ServerError("refused", said ?? "The answer took too long.");
  return new ServerError("refused", said ?? `The server refused, with status ${status}.`);
}
