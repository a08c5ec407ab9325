// Emphasis, code and links within a line of Markdown, as DOM nodes. Hostile text costs linear time.

import { el } from "./dom.js";

const MOST_NESTED = 8;
const LONGEST_LABEL = 1000;
const LONGEST_ADDRESS = 2000;
const SPECIAL = /[\\`*_~[!<\n]|https?:\/\//g;
const BARE = /https?:\/\/[^\s<>"'`\u0000-\u001f]+/y;
const MARKS = [
  ["***", (inner) => el("strong", {}, el("em", {}, ...inner))],
  ["**", (inner) => el("strong", {}, ...inner)],
  ["__", (inner) => el("strong", {}, ...inner)],
  ["~~", (inner) => el("del", {}, ...inner)],
  ["*", (inner) => el("em", {}, ...inner)],
  ["_", (inner) => el("em", {}, ...inner)],
];

/** The nodes of a piece of text. */
export function inline(text, depth = 0) {
  if (depth > MOST_NESTED) return [text];
  const nodes = [];
  const missing = new Set(); // what was looked for and is not in the rest
  let plain = "";
  let at = 0;
  const put = (node) => {
    if (plain) nodes.push(plain);
    plain = "";
    nodes.push(node);
  };
  while (at < text.length) {
    SPECIAL.lastIndex = at;
    const found = SPECIAL.exec(text);
    if (!found) break;
    plain += text.slice(at, found.index);
    at = found.index;
    const taken = piece(text, at, depth, missing);
    if (taken) {
      put(taken.node);
      at = taken.end;
    } else if (text[at] === "\\" && /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "")) {
      plain += text[at + 1];
      at += 2;
    } else {
      const run = /[*_~]/.test(text[at]) ? runOf(text, at) : 1;
      plain += text.slice(at, at + run);
      at += run;
    }
  }
  plain += text.slice(at);
  if (plain) nodes.push(plain);
  return nodes;
}

function piece(text, at, depth, missing) {
  switch (text[at]) {
    case "`":
      return code(text, at, missing);
    case "[":
      return link(text, at, depth);
    case "!":
      return text[at + 1] === "[" ? link(text, at + 1, depth) : null; // an image would tell others of the reader
    case "<":
      return pointed(text, at);
    case "h":
      return bare(text, at);
    case "\n":
      return lineBreak(text, at);
    case "\\":
      return text[at + 1] === "\n" ? { node: el("br"), end: at + 2 } : null;
    default:
      return marked(text, at, depth, missing);
  }
}

function code(text, at, missing) {
  const fence = "`".repeat(runOf(text, at));
  if (missing.has(fence)) return null;
  let end = at + fence.length;
  for (;;) {
    end = text.indexOf(fence, end);
    if (end < 0) {
      missing.add(fence);
      return null;
    }
    if (text[end - 1] !== "`" && text[end + fence.length] !== "`") break;
    end += runOf(text, end);
  }
  const inner = text.slice(at + fence.length, end).replaceAll("\n", " ");
  const shown = /^ .* $/.test(inner) && inner.trim() ? inner.slice(1, -1) : inner;
  return { node: el("code", { text: shown }), end: end + fence.length };
}

function marked(text, at, depth, missing) {
  for (const [mark, make] of MARKS) {
    if (!text.startsWith(mark, at) || missing.has(mark)) continue;
    const start = at + mark.length;
    if (!text[start] || /\s/.test(text[start])) continue;
    if (mark[0] === "_" && /[\p{L}\p{N}]/u.test(text[at - 1] ?? "")) continue;
    const end = closing(text, start, mark);
    if (end < 0) {
      missing.add(mark);
      continue;
    }
    return { node: make(inline(text.slice(start, end), depth + 1)), end: end + mark.length };
  }
  return null;
}

function closing(text, start, mark) {
  let at = start;
  for (;;) {
    at = text.indexOf(mark, at);
    if (at < 0) return -1;
    const run = runOf(text, at);
    const isEscaped = text[at - 1] === "\\";
    const fits = run === mark.length || (run > mark.length && mark.length > 1) || (run === 3 && mark.length === 1);
    const isWord = mark[0] === "_" && /[\p{L}\p{N}]/u.test(text[at + run] ?? "");
    if (fits && at > start && !/\s/.test(text[at - 1]) && !isEscaped && !isWord) return at + run - mark.length;
    at += run;
  }
}

function link(text, at, depth) {
  let level = 0;
  let close = -1;
  const most = Math.min(text.length, at + LONGEST_LABEL);
  for (let i = at; i < most; i += 1) {
    if (text[i] === "\\") i += 1;
    else if (text[i] === "[") level += 1;
    else if (text[i] === "]" && (level -= 1) === 0) {
      close = i;
      break;
    }
  }
  if (close < 0 || text[close + 1] !== "(") return null;
  const found = /^\(\s*<?((?:[^\s()<>]|\([^\s()<>]*\))*)>?(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/.exec(
    text.slice(close + 1, close + 1 + LONGEST_ADDRESS),
  );
  if (!found) return null;
  const label = text.slice(at + 1, close);
  const end = close + 1 + found[0].length;
  return { node: anchor(found[1], inline(label || found[1], depth + 1)), end };
}

function pointed(text, at) {
  const found = /^<(https?:\/\/[^\s<>]+)>/i.exec(text.slice(at, at + LONGEST_ADDRESS));
  if (found) return { node: anchor(found[1], [found[1]]), end: at + found[0].length };
  const broken = /^<br\s*\/?>/i.exec(text.slice(at, at + 8));
  return broken ? { node: el("br"), end: at + broken[0].length } : null;
}

function bare(text, at) {
  if (/[\p{L}\p{N}]/u.test(text[at - 1] ?? "")) return null;
  BARE.lastIndex = at;
  let address = BARE.exec(text)?.[0].slice(0, LONGEST_ADDRESS).replace(/[.,;:!?*_~\]]+$/, "");
  if (!address) return null;
  if (address.endsWith(")") && !address.includes("(")) address = address.slice(0, -1);
  return { node: anchor(address, [address]), end: at + address.length };
}

function lineBreak(text, at) {
  return { node: el("br"), end: at + 1 + (/^[ \t]*/.exec(text.slice(at + 1, at + 100))?.[0].length ?? 0) };
}

/** A link, if it leads to http or https; else its text and where it would lead, as text. */
function anchor(address, children) {
  let url = null;
  try {
    url = new URL(address);
  } catch {
    // No whole address: there is nothing here that it could be relative to.
  }
  if (url?.protocol !== "http:" && url?.protocol !== "https:") {
    return el("span", { class: "no-link", title: "This link leads nowhere safe" }, ...children);
  }
  const properties = { href: url.href, target: "_blank", rel: "noopener noreferrer nofollow", title: url.href };
  return el("a", properties, ...children.map(flat));
}

/** A link within a link is text. */
function flat(node) {
  if (!(node instanceof Element)) return node;
  if (node.tagName === "A") return document.createTextNode(node.textContent);
  node.querySelectorAll("a").forEach((inner) => inner.replaceWith(inner.textContent));
  return node;
}

function runOf(text, at) {
  let end = at;
  while (text[end] === text[at]) end += 1;
  return end - at;
}
