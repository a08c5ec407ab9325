// The server's wire: requests, and streams of server-sent events.

/** What went wrong, in the server's words. `retryAfter` is in seconds. */
export class ChatError extends Error {
  constructor(message, { code = "", status = 0, retryAfter = null, requestId = "" } = {}) {
    super(message);
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter;
    this.requestId = requestId;
  }
}

/** Reads events out of text that may be cut anywhere; lines end with LF, CR or CRLF. */
export class EventReader {
  #rest = "";
  #skipsFeed = false;
  #event = "";
  #data = [];

  /** The events that are whole by now, as `{event, data}`. */
  feed(text) {
    if (text && this.#skipsFeed) {
      this.#skipsFeed = false;
      if (text.startsWith("\n")) text = text.slice(1);
    }
    const events = [];
    let all = this.#rest + text;
    let from = 0;
    for (let at = this.#rest.length; at < all.length; at += 1) {
      const character = all[at];
      if (character !== "\n" && character !== "\r") continue;
      this.#line(all.slice(from, at), events);
      if (character === "\r") {
        if (at + 1 === all.length) this.#skipsFeed = true;
        else if (all[at + 1] === "\n") at += 1;
      }
      from = at + 1;
    }
    this.#rest = all.slice(from);
    return events;
  }

  #line(line, events) {
    if (line === "") {
      if (this.#data.length) events.push({ event: this.#event || "message", data: this.#data.join("\n") });
      this.#event = "";
      this.#data = [];
      return;
    }
    if (line.startsWith(":")) return;
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#event = value;
  }
}

/** Who asks: the key, which this tab alone keeps. */
export const key = {
  get: () => read(() => sessionStorage.getItem("loom.key")) ?? "",
  set: (value) => read(() => sessionStorage.setItem("loom.key", value)),
  clear: () => read(() => sessionStorage.removeItem("loom.key")),
};

function read(action) {
  try {
    return action();
  } catch {
    return null;
  }
}

/** A request to the server with the key. Raises `ChatError` if the server is not there. */
export async function request(path, { headers = {}, ...options } = {}) {
  const secret = key.get();
  try {
    return await fetch(path, {
      ...options,
      cache: "no-store",
      credentials: "omit",
      headers: { ...headers, ...(secret ? { Authorization: `Bearer ${secret}` } : {}) },
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ChatError("The server cannot be reached", { code: "unreachable" });
  }
}

/** What a refusal says. */
export async function problem(response) {
  let told = {};
  try {
    told = (await response.json()).error ?? {};
  } catch {
    // Something in between answered, and not in JSON.
  }
  const after = Number.parseFloat(response.headers.get("retry-after") ?? "");
  return new ChatError(told.message || `The server answered ${response.status} ${response.statusText}`.trim(), {
    code: told.code ?? "",
    status: response.status,
    retryAfter: Number.isFinite(after) ? after : null,
    requestId: response.headers.get("x-request-id") ?? "",
  });
}

/** Ask, and hand each chunk to `take`. Raises `ChatError`; an abort of `signal` ends the run on the server. */
export async function chat({ model, messages, session, signal, take }) {
  const response = await request("v1/chat/completions", {
    method: "POST",
    signal,
    headers: {
      "Content-Type": "application/json",
      "X-Loom-Events": "true",
      ...(session ? { "X-Session-Id": session } : {}),
    },
    body: JSON.stringify({ model, messages, stream: true, stream_options: { include_usage: true } }),
  });
  if (!response.ok) throw await problem(response);
  const requestId = response.headers.get("x-request-id") ?? "";
  const reader = new EventReader();
  const decoder = new TextDecoder();
  const body = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await body.read();
      for (const event of reader.feed(done ? decoder.decode() : decoder.decode(value, { stream: true }))) {
        if (event.data === "[DONE]") return;
        if (!event.data) continue;
        const data = parsed(event.data, requestId);
        if (event.event === "error" || data.error) {
          throw new ChatError(data.error?.message ?? "The answer broke off", {
            code: data.error?.code ?? "",
            status: response.status,
            requestId,
          });
        }
        take(data);
      }
      if (done) break;
    }
  } catch (error) {
    if (error instanceof ChatError || error.name === "AbortError") throw error;
    throw new ChatError("The connection broke off before the answer was whole", { code: "broken_off", requestId });
  }
  throw new ChatError("The answer ended before it was whole", { code: "broken_off", requestId });
}

function parsed(data, requestId) {
  try {
    return JSON.parse(data);
  } catch {
    throw new ChatError("The server sent what is no JSON", { code: "broken_off", requestId });
  }
}
