// Health lights: how the server's deployments stand, asked every few seconds.

import { el } from "./dom.js";
import { number, seconds, tokens } from "./format.js";
import { ChatError, request } from "./stream.js";

const OFTEN = 5_000;
const SELDOM = 60_000;
const WORDS = { ok: "All well", degraded: "Degraded", down: "Down", draining: "Stopping", unreachable: "Not reachable" };
const LIGHTS = { ok: "green", degraded: "amber", draining: "amber", down: "red", unreachable: "red" };

/** Watches `/health` and shows it in the button and the panel. */
export class HealthLights {
  constructor(button, text, panel) {
    this._button = button;
    this._text = text;
    this._panel = panel;
    this._pause = OFTEN;
    this._timer = 0;
    this._shown = "";
    this._asking = null;
    button.addEventListener("click", () => this.toggle(panel.hidden));
    document.addEventListener("click", (event) => {
      if (!panel.hidden && !event.target.closest(".health")) this.toggle(false);
    });
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.look();
    });
  }

  /** Open or close the panel; whether that changed anything. */
  toggle(isOpen) {
    if (isOpen === !this._panel.hidden) return false;
    this._panel.hidden = !isOpen;
    this._button.setAttribute("aria-expanded", String(isOpen));
    return true;
  }

  get isOpen() {
    return !this._panel.hidden;
  }

  /** Ask now, and again in a while. What the server said, or `null`. */
  look() {
    this._asking ??= this._look().finally(() => {
      this._asking = null;
    });
    return this._asking;
  }

  async _look() {
    clearTimeout(this._timer);
    const found = await ask();
    this._pause = found ? OFTEN : Math.min(SELDOM, this._pause * 2);
    this._show(found);
    if (!document.hidden) this._timer = setTimeout(() => this.look(), this._pause);
    return found;
  }

  _show(found) {
    const status = found?.status ?? "unreachable";
    const text = JSON.stringify(found);
    if (text === this._shown) return;
    this._shown = text;
    this._button.dataset.light = LIGHTS[status] ?? "amber";
    this._text.textContent = WORDS[status] ?? status;
    this._panel.replaceChildren(...contents(found));
  }
}

async function ask() {
  try {
    const response = await request("health", { signal: AbortSignal.timeout?.(10_000) });
    return await response.json();
  } catch (error) {
    if (error instanceof ChatError || error instanceof SyntaxError || error instanceof DOMException) return null;
    throw error;
  }
}

function contents(found) {
  if (!found) return [el("p", { text: "The server does not answer. It is asked again, less and less often." })];
  if (!found.models) return [el("p", { text: "The details are for those with a key." })];
  return Object.entries(found.models).flatMap(([name, health]) => [
    el("h2", { text: name }),
    el("ul", {}, ...Object.values(health.deployments).map(deployment), ...Object.entries(health.tools).filter(([, stats]) => stats.state !== "closed").map(tool)),
    ...(health.budgets ?? []).map(budget).filter(Boolean),
    ...(health.shared && !health.shared.connected ? [el("p", { text: "The shared state cannot be reached: limits are kept by each process." })] : []),
  ]);
}

function row(light, name, words, detail) {
  return el(
    "li",
    { data: { light } },
    el("span", { class: "light", "aria-hidden": "true" }),
    el("span", { class: "lane" }, el("span", { class: "lane-name", text: name }), el("span", { class: "lane-words", text: words }), detail ? el("span", { class: "lane-detail", text: detail }) : null),
  );
}

/** A deployment's light and why it has it. */
function deployment(lane) {
  const detail = [];
  if (lane.latency) detail.push(`answers in about ${seconds(lane.latency)}`);
  if (lane.in_flight) detail.push(`${lane.in_flight} under way`);
  const free = lane.rate_limit?.remaining_share;
  if (typeof free === "number") detail.push(`${Math.floor(free * 100)} % of the quota free`);
  if (lane.rate_limit?.queued) detail.push(`${lane.rate_limit.queued} waiting`);
  const [light, words] = verdict(lane, free);
  return row(light, lane.name, words, detail.join(" · "));
}

function verdict(lane, free) {
  const state = lane.breaker?.state;
  const wait = lane.retry_in > 0 ? `, tried again in ${seconds(lane.retry_in)}` : "";
  if (lane.throttle?.remaining > 0) return ["amber", `Throttled${wait}`];
  if (state === "open" && lane.retry_in > 0) return ["red", `Circuit open${wait}`];
  if (state === "open") return ["amber", "Circuit open, the next call tries it"];
  if (lane.retry_in > 0 && /rate limit/.test(lane.reason)) return ["amber", `At its rate limit${wait}`];
  if (lane.retry_in > 0 || lane.retry_in === null) return ["red", `Not available${wait}${lane.reason ? `: ${lane.reason}` : ""}`];
  if (state === "half-open") return ["amber", "Circuit half-open, being tried"];
  if (typeof free === "number" && free < 0.1) return ["amber", "Almost at its quota"];
  return ["green", "Available"];
}

function tool([name, stats]) {
  const wait = stats.retry_after > 0 ? `, tried again in ${seconds(stats.retry_after)}` : "";
  return row(stats.state === "open" ? "red" : "amber", `Tool ${name}`, `Circuit ${stats.state}${wait}`, "");
}

/** What is left of a budget of the whole agent; those of single chats and sessions are nobody else's. */
function budget(status) {
  if (status.per === "chat" || status.per === "session") return null;
  const parts = [];
  if (status.usd?.limit) parts.push(`$${status.usd.spent} of $${status.usd.limit}`);
  if (status.tokens?.limit) parts.push(`${number(status.tokens.spent)} of ${tokens(Number(status.tokens.limit))}`);
  return parts.length ? el("p", { class: "budget", text: `Budget per ${status.per}: ${parts.join(", ")} spent` }) : null;
}
