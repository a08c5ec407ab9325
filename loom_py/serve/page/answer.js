// One answer as it grows out of the server's chunks. No DOM here.

/** The longest result of a tool that is kept, in characters. */
const MOST_KEPT = 100_000;

export function newAnswer(model) {
  return { model, state: "running", parts: [], usage: { input: 0, output: 0, cached: 0 }, cost: null, ms: null, error: null };
}

/** What a chunk changes. */
export function apply(answer, chunk) {
  const delta = chunk.choices?.[0]?.delta?.content;
  if (typeof delta === "string" && delta) addText(answer, delta);
  const reason = chunk.choices?.[0]?.finish_reason;
  if (reason) answer.reason = reason;
  if (chunk.loom) TAKEN[chunk.loom.type]?.(answer, chunk.loom);
}

function addText(answer, delta) {
  const last = answer.parts.findLast((part) => part.kind !== "note"); // a note parts no sentence
  if (last?.kind === "text") {
    last.text += delta;
    return;
  }
  const text = delta.replace(/^\n+/, ""); // a gap for clients that show one text
  if (text) answer.parts.push({ kind: "text", text });
}

const TAKEN = {
  tool_call_started(answer, event) {
    answer.parts.push({ kind: "tool", id: event.call_id, name: event.name, state: "asked", args: "", result: "" });
  },
  tool_call_completed(answer, { call }) {
    let tool = open(answer, call.id);
    if (!tool) {
      tool = { kind: "tool", id: call.id, name: call.name, state: "asked", args: "", result: "" };
      answer.parts.push(tool);
    }
    tool.args = call.arguments_json ?? "";
    tool.problem = call.error ?? null;
    tool.state = "running";
  },
  tool_result(answer, { result }) {
    const tool = open(answer, result.call_id);
    if (!tool) return;
    const text = shown(result.content);
    tool.result = text.length > MOST_KEPT ? `${text.slice(0, MOST_KEPT)}\n… (${text.length - MOST_KEPT} more characters)` : text;
    tool.state = result.is_error ? "failed" : "done";
    tool.code = result.error_code ?? null;
    tool.ms = result.duration_ms;
  },
  usage(answer, { usage }) {
    answer.usage.input += usage.input ?? 0;
    answer.usage.output += usage.output ?? 0;
    answer.usage.cached += usage.cached_input ?? 0;
  },
  stream_restarted(answer) {
    const reply = answer.parts.findLastIndex((part) => part.kind === "tool" && settled(part)) + 1;
    const isTakenBack = (part, index) => index >= reply && part.kind !== "note";
    answer.parts = answer.parts.filter((part, index) => !isTakenBack(part, index));
    note(answer, "The answer broke off and begins anew");
  },
  policy(answer, event) {
    const text = NOTES[event.name]?.(event);
    if (text) note(answer, text);
  },
  final(answer, event) {
    const usage = event.usage ?? {};
    answer.usage = { input: usage.input ?? 0, output: usage.output ?? 0, cached: usage.cached_input ?? 0 };
    answer.cost = event.cost_usd;
  },
};

const at = (seconds) => `${Math.max(0.1, seconds).toFixed(1)} s`;

const NOTES = {
  retry_scheduled: (e) => `${e.deployment} failed (${e.error}); asked again in ${at(e.wait_seconds)}`,
  circuit_breaker: (e) => (e.after === "open" ? `The circuit of ${e.breaker} opened` : e.after === "closed" ? `The circuit of ${e.breaker} closed again` : ""),
  deployment_throttled: (e) => `${e.deployment} has enough for ${at(e.seconds)}`,
  deployment_taken_out: (e) => `${e.deployment} was taken out: ${e.error}`,
  deployment_restored: (e) => `${e.deployment} answers again`,
  failed_over: (e) => `Went from ${e.deployment} to ${e.to} (${e.reason})`,
  hedge_started: (e) => `${e.deployment} was slow; ${e.to} was asked as well`,
  call_queued: (e) => `Waits for the rate limit, about ${at(e.wait_seconds)}`,
  budget_warning: (e) => `${e.unit === "usd" ? `$${e.spent} of $${e.limit}` : `${e.spent} of ${e.limit} tokens`} of the budget are spent`,
  budget_refused: () => "A call was not sent: the budget does not suffice",
  tool_withheld: (e) => `The tool ${e.tool} is not offered for now: it failed too often`,
};

function note(answer, text) {
  const last = answer.parts.at(-1);
  if (last?.kind === "note" && last.text === text) last.times = (last.times ?? 1) + 1;
  else answer.parts.push({ kind: "note", text });
}

function open(answer, id) {
  return answer.parts.findLast((part) => part.kind === "tool" && part.id === id && !settled(part));
}

const settled = (tool) => tool.state === "done" || tool.state === "failed";

function shown(content) {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return JSON.stringify(content ?? null);
  return content.map((part) => (typeof part?.text === "string" ? part.text : "[image]")).join("\n");
}

/** The text of the answer alone. */
export function textOf(answer) {
  return answer.parts.filter((part) => part.kind === "text").map((part) => part.text.trim()).join("\n\n");
}

/** Whether the model is told of this answer when it is asked again. */
export function isTold(answer) {
  return answer.parts.some((part) => part.kind === "text" || (part.kind === "tool" && settled(part)));
}

/** The conversation before a question, and the question, as the server takes it. */
export function history(turns, question) {
  const messages = [];
  for (const turn of turns) {
    if (!isTold(turn.answer)) continue; // nothing was answered: to the model it was never asked
    messages.push({ role: "user", content: turn.question }, ...told(turn.answer, messages.length));
  }
  messages.push({ role: "user", content: question });
  return messages;
}

function told(answer, offset) {
  const messages = [];
  let text = "";
  let calls = [];
  const flush = () => {
    if (!text && !calls.length) return;
    const named = calls.map((tool, index) => ({ tool, id: `${tool.id || "call"}-${offset}-${messages.length}-${index}`.slice(-256) }));
    messages.push({
      role: "assistant",
      content: text,
      ...(calls.length ? { tool_calls: named.map(({ tool, id }) => ({ id, type: "function", function: { name: tool.name, arguments: tool.args || "{}" } })) } : {}),
    });
    for (const { tool, id } of named) messages.push({ role: "tool", tool_call_id: id, content: tool.result });
    text = "";
    calls = [];
  };
  for (const part of answer.parts) {
    if (part.kind === "text") {
      if (calls.length) flush();
      text += part.text;
    } else if (part.kind === "tool" && settled(part)) {
      calls.push(part);
    }
  }
  flush();
  return messages;
}
