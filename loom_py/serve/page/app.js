// The page: what happens when someone types, sends, stops, chooses.

import { apply, history, isTold, newAnswer } from "./answer.js";
import { el, icon, say } from "./dom.js";
import { Drawing, follow, showLatest, toEnd } from "./drawing.js";
import { money, tokens } from "./format.js";
import { HealthLights } from "./health.js";
import { askForKey, keyDialog } from "./keys.js";
import { Recall } from "./recall.js";
import { closeSidebar, openSidebar } from "./sidebar.js";
import * as store from "./store.js";
import { ChatError, chat, key, problem, request } from "./stream.js";
import { themeButton } from "./themes.js";
import { TurnView } from "./view.js";

const $ = (id) => document.getElementById(id);
const KEEP_EVERY = 1000; // milliseconds between saves of an answer that grows

const lights = new HealthLights($("health"), $("health-text"), $("health-panel"));
const recall = new Recall();
const runs = new Map(); // conversation id → {controller, turn}
let models = [];
let current = null;
let views = [];
let keepsSessions = true;
let learning = null; // under way while the server is asked what it has
let isLeaving = false; // the browser breaks answers off when it leaves the page

// ── conversations ────────────────────────────────────────────────────────────────────────

function show(conversation) {
  current = conversation;
  views.forEach((view) => view.leave());
  views = [];
  $("turns").replaceChildren();
  current.turns.forEach(addView);
  $("welcome").hidden = current.turns.length > 0;
  if (models.includes(current.model)) $("model").value = current.model;
  else if (models.length) current.model = $("model").value;
  nameAgent();
  recall.reset();
  refresh();
  listConversations();
  toEnd();
}

function addView(turn) {
  const view = new TurnView(turn, { again: () => askAgain(turn) });
  views.at(-1)?.setLast(false);
  views.push(view);
  $("turns").append(view.node);
  return view;
}

function begin() {
  show(store.newConversation($("model").value || models[0] || ""));
  closeSidebar();
  $("question").focus();
}

function listConversations() {
  const known = store.conversations();
  const nodes = known.map((each) => {
    const isCurrent = each.id === current?.id;
    const title = each.title || "New conversation";
    const open = el(
      "button",
      { type: "button", class: "open", "aria-current": isCurrent ? "true" : null, title, onclick: () => choose(each.id) },
      el("span", { class: "title", dir: "auto", text: title }),
      runs.has(each.id) ? el("span", { class: "working", text: "answering" }) : null,
    );
    const remove = el("button", { type: "button", class: "icon-button remove", "aria-label": `Delete “${title}”`, onclick: () => forget(each.id) }, icon("trash"));
    return el("li", {}, open, remove);
  });
  $("conversations").replaceChildren(...nodes);
  $("forget-all").hidden = known.length === 0;
}

function choose(id) {
  const found = runs.get(id)?.conversation ?? store.load(id);
  if (found) show(mended(found));
  closeSidebar();
  $("question").focus();
}

/** A conversation out of the storage: what was under way when its page was closed is not any more. */
function mended(conversation) {
  if (runs.has(conversation.id)) return conversation;
  const last = conversation.turns.at(-1);
  if (last?.answer.state === "running") {
    last.answer.state = "interrupted";
    conversation.session = store.newId();
    store.save(conversation);
  }
  return conversation;
}

async function forget(id) {
  const conversation = runs.get(id)?.conversation ?? store.load(id);
  runs.get(id)?.controller.abort();
  runs.delete(id);
  store.remove(id);
  if (current.id === id) begin();
  else listConversations();
  say("The conversation is deleted");
  if (conversation) forgetSession(conversation);
}

function forgetAll() {
  if (!window.confirm("Delete all conversations from this browser?")) return;
  for (const conversation of store.conversations()) forgetSession(conversation);
  for (const { controller } of runs.values()) controller.abort();
  runs.clear();
  store.removeAll();
  begin();
  say("All conversations are deleted");
}

/** Tell the server to forget what it kept; it lets go of it by itself if this does not arrive. */
function forgetSession({ session, turns }) {
  if (!keepsSessions || !turns.some((turn) => turn.answer.state === "done")) return;
  request(`v1/sessions/${encodeURIComponent(session)}`, { method: "DELETE" }).catch(() => {});
}

/** The server's memory would differ from what is shown here: it begins anew, from what is sent along. */
function parted(conversation) {
  forgetSession(conversation);
  conversation.session = store.newId();
}

// ── asking ───────────────────────────────────────────────────────────────────────────────

function submit() {
  const question = $("question").value.trim();
  if (!question || runs.has(current.id)) return;
  if (!models.length) {
    if (learning) learning.then(() => models.length && submit());
    else if (!$("key").hidden) askForKey("").then(connectIf);
    return;
  }
  $("question").value = "";
  recall.reset();
  grow();
  if (!current.title) current.title = question.replace(/\s+/g, " ").slice(0, 80);
  const turn = { question, answer: newAnswer(current.model) };
  current.turns.push(turn);
  $("welcome").hidden = true;
  run(current, turn, addView(turn));
}

function askAgain(turn) {
  if (runs.has(current.id) || current.turns.at(-1) !== turn) return;
  if (isTold(turn.answer)) parted(current);
  turn.answer = newAnswer(current.model);
  const old = views.pop();
  old.leave();
  const view = addView(turn);
  old.node.replaceWith(view.node);
  run(current, turn, view);
  $("question").focus();
}

async function run(conversation, turn, firstView) {
  const controller = new AbortController();
  const { answer } = turn;
  runs.set(conversation.id, { controller, turn, conversation });
  conversation.used = Date.now();
  let saved = Date.now();
  store.save(conversation);
  refresh();
  listConversations();
  toEnd();
  say("The agent is answering");
  const began = performance.now();
  const drawing = new Drawing(() => {
    viewOf(turn)?.update();
    refreshTotal();
  });
  try {
    await ask(conversation, turn, controller.signal, (chunk) => {
      apply(answer, chunk);
      drawing.soon();
      if (Date.now() - saved > KEEP_EVERY) {
        saved = Date.now();
        keep(conversation);
      }
    });
    answer.state = "done";
  } catch (error) {
    failed(answer, error, controller.signal.aborted);
    if (isTold(answer)) parted(conversation);
  }
  answer.ms = performance.now() - began;
  drawing.end();
  if (runs.get(conversation.id)?.controller === controller) {
    runs.delete(conversation.id);
    keep(conversation);
  }
  follow(() => (viewOf(turn) ?? firstView).finish());
  refresh();
  listConversations();
  say(SAID[answer.state]);
  lights.look();
  if (answer.error?.status === 401) askForKey("The server does not take this key any more.").then(connectIf);
}

const SAID = { done: "The answer is complete", stopped: "Stopped", failed: "The answer failed", interrupted: "Interrupted" };

const viewOf = (turn) => views.find((view) => view.answer === turn.answer);

/** Several workers keep no sessions; they are asked with the whole history, which is sent anyway. */
async function ask(conversation, turn, signal, take) {
  const before = conversation.turns.slice(0, conversation.turns.indexOf(turn));
  const asked = { model: turn.answer.model, messages: history(before, turn.question), signal, take };
  try {
    await chat({ ...asked, session: keepsSessions ? conversation.session : null });
  } catch (error) {
    if (error.code !== "sessions_unavailable" || !keepsSessions) throw error;
    keepsSessions = false;
    await chat({ ...asked, session: null });
  }
}

function failed(answer, error, wasStopped) {
  if (wasStopped || isLeaving) {
    answer.state = wasStopped ? "stopped" : "interrupted";
    return;
  }
  answer.state = "failed";
  const known = error instanceof ChatError;
  if (!known) console.error(error);
  answer.error = {
    message: known ? error.message : "The page could not show the answer",
    code: error.code ?? "",
    status: error.status ?? 0,
    requestId: error.requestId ?? "",
    retryAt: error.retryAfter ? Date.now() + error.retryAfter * 1000 : null,
  };
}

function keep(conversation) {
  if (!store.save(conversation)) say("This browser has no room to keep the conversation");
}

function stop() {
  const found = runs.get(current.id);
  if (!found) return false;
  found.controller.abort();
  $("question").focus();
  return true;
}

// ── the look of the page ─────────────────────────────────────────────────────────────────

function refresh() {
  const isRunning = runs.has(current.id);
  $("stop").hidden = !isRunning;
  $("send").hidden = isRunning;
  $("send").disabled = !$("question").value.trim() || (!models.length && $("key").hidden);
  $("hints").textContent = isRunning ? "Esc stops the answer" : "Enter sends, Shift+Enter makes a new line";
  document.title = current.title ? `${current.title} · loom` : "loom";
  refreshTotal();
}

/** What the conversation has used and cost up to now. */
function refreshTotal() {
  let used = 0;
  let cost = 0;
  let priced = 0;
  let unpriced = 0;
  for (const { answer } of current.turns) {
    const count = answer.usage.input + answer.usage.output;
    used += count;
    if (answer.cost !== null && answer.cost !== undefined) {
      cost += Number(answer.cost);
      priced += 1;
    } else if (count) {
      unpriced += 1;
    }
  }
  const price = priced === 0 ? "" : ` · ${unpriced ? "at least " : ""}${money(cost)}`;
  $("total").textContent = used ? `${tokens(used)}${price}` : "";
}

function nameAgent() {
  const isOne = models.length < 2;
  $("model").hidden = isOne;
  $("agent-name").classList.toggle("visually-hidden", !isOne);
  $("agent-name").textContent = current.model || "loom";
  $("welcome-title").textContent = current.model ? `Ask ${current.model}` : "What would you like to know?";
  $("question").placeholder = current.model ? `Ask ${current.model}` : "Ask something";
}

/** As high as what is written, within what the style allows. */
function grow() {
  const box = $("question");
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight}px`;
}

// ── the keyboard ─────────────────────────────────────────────────────────────────────────

function onQuestionKey(event) {
  if (event.isComposing || event.keyCode === 229) return; // an input method is at work
  if (event.key === "Enter" && !event.shiftKey && !event.altKey) {
    event.preventDefault();
    submit();
  } else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
    const asked = current.turns.map((turn) => turn.question);
    const text = recall.go(event.key === "ArrowUp" ? 1 : -1, $("question").value, asked);
    if (text === null) return;
    event.preventDefault();
    $("question").value = text;
    grow();
    refresh();
  }
}

function onKey(event) {
  if (event.key === "Escape" && !event.isComposing && !$("key-dialog").open) {
    if (lights.isOpen) {
      lights.toggle(false);
      $("health").focus();
    } else if (!closeSidebar()) {
      stop();
    }
  } else if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.target.closest("input, textarea, select, dialog")) {
    event.preventDefault();
    $("question").focus();
  }
}

// ── the beginning ────────────────────────────────────────────────────────────────────────

/** Learn what the server has, with a key if it wants one. */
async function connect() {
  learning = learn();
  const needsKey = await learning;
  learning = null;
  if (!needsKey) return;
  const wasGiven = key.get() !== "";
  key.clear();
  refresh();
  connectIf(await askForKey(wasGiven ? "The server does not know this key." : ""));
}

/** Ask for the agents. Whether a key is needed first. */
async function learn() {
  const health = await lights.look();
  const needsKey = health !== null && !health.models;
  $("key").hidden = !needsKey && !key.get();
  if (needsKey) return true;
  try {
    const response = await request("v1/models");
    if (!response.ok) throw await problem(response);
    models = (await response.json()).data.map((each) => each.id);
  } catch (error) {
    if (!(error instanceof ChatError)) throw error;
    say(error.message);
    $("hints").textContent = error.message;
    setTimeout(connect, 5000);
    return false;
  }
  $("model").replaceChildren(...models.map((name) => el("option", { value: name, text: name })));
  show(current);
  return false;
}

/** Try again with the key that was given, if one was. */
const connectIf = (isGiven) => isGiven && connect();

function wire() {
  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  $("question").addEventListener("keydown", onQuestionKey);
  $("question").addEventListener("input", () => {
    recall.reset();
    grow();
    refresh();
  });
  $("stop").addEventListener("click", stop);
  $("new").addEventListener("click", begin);
  $("forget-all").addEventListener("click", forgetAll);
  $("open-sidebar").addEventListener("click", openSidebar);
  $("close-sidebar").addEventListener("click", closeSidebar);
  $("backdrop").addEventListener("click", closeSidebar);
  $("latest").addEventListener("click", toEnd);
  $("transcript").addEventListener("scroll", showLatest, { passive: true });
  $("model").addEventListener("change", () => {
    parted(current);
    current.model = $("model").value;
    if (current.turns.length) keep(current);
    nameAgent();
  });
  $("key").addEventListener("click", () => {
    askForKey("").then(connectIf);
  });
  document.addEventListener("keydown", onKey);
  window.addEventListener("storage", (event) => {
    if (store.concerns(event)) listConversations();
  });
  window.addEventListener("pagehide", () => {
    isLeaving = true;
    runs.forEach(({ conversation }) => store.save(conversation));
  });
  window.addEventListener("pageshow", () => {
    isLeaving = false;
  });
  themeButton($("theme"));
  keyDialog($("key-dialog"));
}

wire();
begin();
connect();
