// How questions and answers look.

import { isTold, textOf } from "./answer.js";
import { copyButton, el, icon } from "./dom.js";
import { money, number, pretty, seconds, tokens } from "./format.js";
import { render } from "./markdown.js";

const ENDS = {
  stopped: "Stopped",
  interrupted: "Interrupted: the page was closed",
};

/** A question and its answer. `again()` asks the question once more. */
export class TurnView {
  constructor(turn, { again }) {
    this.turn = turn;
    this.answer = turn.answer;
    this._again = again;
    this._parts = new Map();
    this._body = el("div", { class: "body" });
    this._wait = el("p", { class: "wait" }, el("span", { class: "dots", "aria-hidden": "true" }, el("i"), el("i"), el("i")), el("span", { text: "Thinking" }));
    this._end = el("div", { class: "end" });
    this._article = el(
      "article",
      { class: "answer", "aria-label": `Answer of ${this.answer.model}` },
      el("p", { class: "who", text: this.answer.model }),
      this._body,
      this._wait,
      this._end,
    );
    const question = el("div", { class: "question", dir: "auto" }, el("span", { class: "visually-hidden", text: "You: " }), turn.question);
    this.node = el("section", { class: "turn" }, question, this._article);
    this._timer = 0;
    this._isLast = true;
    this.update();
    this._finish();
  }

  /** Show what has changed. */
  update() {
    const { answer } = this;
    const isRunning = answer.state === "running";
    this._article.setAttribute("aria-busy", String(isRunning));
    const known = new Set(answer.parts);
    for (const [part, view] of this._parts) {
      if (known.has(part)) continue;
      view.node.remove();
      this._parts.delete(part);
    }
    for (const part of answer.parts) {
      let view = this._parts.get(part);
      if (!view) {
        view = new VIEWS[part.kind](part);
        this._parts.set(part, view);
        this._body.append(view.node);
      }
      view.update(isRunning);
    }
    const last = answer.parts.at(-1);
    this._wait.hidden = !isRunning || last?.kind === "text";
    this._wait.lastChild.textContent = last?.kind === "tool" && last.state === "running" ? `Running ${last.name}` : "Thinking";
  }

  /** The answer is over: what it took, and what can be done with it. */
  finish() {
    this.update();
    this._finish();
  }

  /** Only the last question of a conversation can be asked again. */
  setLast(isLast) {
    if (this._isLast === isLast) return;
    this._isLast = isLast;
    this._finish();
  }

  /** The page shows something else now. */
  leave() {
    clearTimeout(this._timer);
  }

  _finish() {
    clearTimeout(this._timer);
    const { answer } = this;
    if (answer.state === "running") {
      this._end.replaceChildren();
      return;
    }
    const nodes = [];
    if (answer.error) nodes.push(this._problem(answer.error));
    else if (ENDS[answer.state]) nodes.push(el("p", { class: "ended", text: ENDS[answer.state] }));
    else if (answer.reason === "length") nodes.push(el("p", { class: "ended", text: "Cut off: the answer reached its limit of tokens" }));
    else if (answer.reason === "content_filter") nodes.push(el("p", { class: "ended", text: "Cut off by the content filter" }));
    else if (!isTold(answer)) nodes.push(el("p", { class: "ended", text: "The agent answered nothing" }));
    const told = [figures(answer), this._actions()].filter((node) => node.textContent);
    if (told.length) nodes.push(el("div", { class: "meta" }, ...told));
    this._end.replaceChildren(...nodes);
  }

  _actions() {
    const { answer } = this;
    const actions = [];
    if (textOf(answer)) actions.push(copyButton("Copy the answer", () => textOf(answer)));
    if (this._isLast && !answer.error) actions.push(againButton("Ask again", this._again));
    return el("div", { class: "actions" }, ...actions);
  }

  _problem(error) {
    const facts = [error.status >= 400 ? String(error.status) : "", error.code, error.requestId].filter(Boolean).join(" · ");
    const when = el("p", { class: "when" });
    const button = this._isLast ? againButton("Try again", this._again, "plain") : null;
    const node = el(
      "div",
      { class: "problem-card", role: this._isLast ? "alert" : null },
      icon("alert"),
      el(
        "div",
        {},
        el("p", { class: "what", dir: "auto", text: sentence(error.message) }),
        facts ? el("p", { class: "facts", text: facts }) : null,
        this._isLast ? when : null,
        button,
      ),
    );
    if (button && error.retryAt) this._count(error.retryAt, when, button);
    else when.remove();
    return node;
  }

  /** Count down to when the server wants to hear of it again. Spoken once, not every second. */
  _count(retryAt, when, button) {
    const left = Math.ceil((retryAt - Date.now()) / 1000);
    when.setAttribute("aria-live", "off");
    if (left <= 0) {
      when.textContent = "The server takes questions again.";
      button.disabled = false;
      return;
    }
    when.textContent = `The server asks to wait: ${seconds(left < 60 ? Math.max(1, left) : left).replace(".0", "")}`;
    button.disabled = true;
    this._timer = setTimeout(() => this._count(retryAt, when, button), 500);
  }
}

function againButton(label, again, className = "quiet") {
  return el("button", { type: "button", class: `${className} again`, onclick: again }, icon("again"), el("span", { text: label }));
}

/** The server's words as a sentence. */
function sentence(message) {
  const text = message.charAt(0).toUpperCase() + message.slice(1);
  return /[.!?…]$/.test(text) ? text : `${text}.`;
}

function figures(answer) {
  const { input, output, cached } = answer.usage;
  const parts = [];
  if (input + output) parts.push(tokens(input + output));
  if (answer.cost !== null && answer.cost !== undefined) parts.push(money(Number(answer.cost)));
  else if (input + output) parts.push(answer.state === "done" ? "price not known" : "cost not known");
  if (answer.ms && (parts.length || isTold(answer))) parts.push(seconds(answer.ms / 1000));
  const detail = `${number(input)} tokens in${cached ? ` (${number(cached)} of them cached)` : ""}, ${number(output)} out`;
  return el("span", { class: "figures", title: input + output ? detail : null, text: parts.join(" · ") });
}

// ── parts of an answer ───────────────────────────────────────────────────────────────────

class TextView {
  constructor(part) {
    this._part = part;
    this._shown = null;
    this.node = el("div", { class: "text" });
  }

  update(isRunning) {
    this.node.classList.toggle("grows", isRunning && !this.node.nextSibling);
    if (this._shown === this._part.text) return;
    this._shown = this._part.text;
    render(this.node, this._part.text);
  }
}

class NoteView {
  constructor(part) {
    this._part = part;
    this.node = el("p", { class: "note" });
  }

  update() {
    const { text, times } = this._part;
    this.node.textContent = times > 1 ? `${text} (${times} times)` : text;
  }
}

const STATES = { asked: "is being asked for", running: "runs", done: "done", failed: "failed" };

class ToolView {
  constructor(part) {
    this._part = part;
    this._shown = "";
    this._preview = el("span", { class: "preview" });
    this._state = el("span", { class: "state" });
    this._content = el("div", { class: "tool-body" });
    const name = el("span", { class: "tool-name", text: part.name });
    this.node = el(
      "details",
      { class: "tool" },
      el("summary", {}, el("span", { class: "chevron", "aria-hidden": "true" }, icon("chevron")), el("span", { class: "visually-hidden", text: "Tool " }), name, this._preview, this._state),
      this._content,
    );
  }

  update(isRunning) {
    const tool = this._part;
    const state = !isRunning && (tool.state === "asked" || tool.state === "running") ? "stopped" : tool.state;
    if (this._shown === `${state} ${tool.args}`) return;
    this._shown = `${state} ${tool.args}`;
    this.node.dataset.state = state;
    const time = state === "done" || state === "failed" ? seconds((tool.ms ?? 0) / 1000) : "";
    const word = state === "stopped" ? "not run to its end" : STATES[state];
    this._state.textContent = [word, time].filter(Boolean).join(" · ");
    this._preview.textContent = preview(tool.args);
    this._content.replaceChildren(...this._sections(state));
  }

  _sections(state) {
    const tool = this._part;
    const nodes = [section("Arguments", tool.args ? pretty(tool.args) : "…")];
    if (tool.problem) nodes.push(el("p", { class: "ended", text: tool.problem }));
    if (state === "done") nodes.push(section("Result", pretty(tool.result)));
    else if (state === "failed") nodes.push(section(tool.code ? `Error (${tool.code})` : "Error", pretty(tool.result)));
    return nodes;
  }
}

function section(title, text) {
  return el(
    "section",
    {},
    el("header", {}, el("h3", { text: title }), copyButton(`Copy: ${title}`, () => text)),
    el("pre", { tabindex: "0", role: "region", "aria-label": title, dir: "auto", text: text || "(empty)" }),
  );
}

/** The arguments in a few words. */
function preview(args) {
  try {
    const values = Object.entries(JSON.parse(args));
    return values.map(([name, value]) => `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`).join(", ").slice(0, 200);
  } catch {
    return args.slice(0, 200);
  }
}

const VIEWS = { text: TextView, tool: ToolView, note: NoteView };
