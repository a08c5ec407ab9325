// Markdown as DOM nodes. Nothing is ever made from markup, so whatever a model writes is shown and not obeyed.

import { copyButton, el } from "./dom.js";
import { inline } from "./inline.js";

const MOST_NESTED = 6;
const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?: +|$)(.*)$/;
const TABLE_RULE = /^ {0,3}\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;

/** Show `text` in `container`; blocks that are the same as before stay the same nodes. */
export function render(container, text) {
  const blocks = split(text.replaceAll("\r\n", "\n").split("\n"));
  const before = container.loomBlocks ?? [];
  const sources = blocks.map((block) => block.lines.join("\n"));
  let same = 0;
  while (same < blocks.length && same < before.length && sources[same] === before[same]) same += 1;
  while (container.childNodes.length > same) container.lastChild.remove();
  for (const block of blocks.slice(same)) container.append(build(block, 0));
  container.loomBlocks = sources;
}

// ── blocks ───────────────────────────────────────────────────────────────────────────────

function split(lines) {
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const [kind, end] = kindAt(lines, at);
    blocks.push({ kind, lines: lines.slice(at, end) });
    at = end;
  }
  return blocks;
}

function kindAt(lines, at) {
  const line = lines[at];
  if (FENCE.test(line)) return ["code", endOfFence(lines, at)];
  if (HEADING.test(line)) return ["heading", at + 1];
  if (RULE.test(line)) return ["rule", at + 1];
  if (QUOTE.test(line)) return ["quote", whileTrue(lines, at, (each) => QUOTE.test(each))];
  if (ITEM.test(line)) return ["list", endOfList(lines, at)];
  if (isTable(lines, at)) return ["table", whileTrue(lines, at, (each) => each.includes("|") && each.trim() !== "")];
  return ["paragraph", endOfParagraph(lines, at)];
}

function whileTrue(lines, at, test) {
  let end = at + 1;
  while (end < lines.length && test(lines[end])) end += 1;
  return end;
}

function isTable(lines, at) {
  return lines[at].includes("|") && at + 1 < lines.length && lines[at + 1].includes("-") && TABLE_RULE.test(lines[at + 1]) && cells(lines[at]).length === cells(lines[at + 1]).length;
}

function endOfFence(lines, at) {
  const fence = FENCE.exec(lines[at])[1];
  for (let end = at + 1; end < lines.length; end += 1) {
    const line = lines[end].trim();
    if (line.length >= fence.length && line === fence[0].repeat(line.length)) return end + 1;
  }
  return lines.length;
}

function endOfList(lines, at) {
  const isOrdered = /\d/.test(ITEM.exec(lines[at])[2]);
  let end = at + 1;
  while (end < lines.length) {
    const line = lines[end];
    if (!line.trim()) {
      const next = lines[end + 1] ?? "";
      if (!/^ {2,}\S/.test(next) && !sameList(next, isOrdered)) return end;
      end += 1;
      continue;
    }
    const starts = FENCE.test(line) || HEADING.test(line) || (RULE.test(line) && !/^ {2,}/.test(line)) || QUOTE.test(line);
    if (/^\S/.test(line) && !sameList(line, isOrdered) && (starts || ITEM.test(line))) return end;
    end += 1;
  }
  return end;
}

function sameList(line, isOrdered) {
  const found = ITEM.exec(line);
  return found !== null && (found[1].length >= 2 || /\d/.test(found[2]) === isOrdered);
}

function endOfParagraph(lines, at) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim()) {
    const line = lines[end];
    if (FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line)) break;
    if (/^ {0,3}(?:[-*+]|1[.)]) +\S/.test(line) || isTable(lines, end)) break;
    end += 1;
  }
  return end;
}

// ── nodes ────────────────────────────────────────────────────────────────────────────────

function build(block, depth) {
  return BUILDERS[depth > MOST_NESTED ? "paragraph" : block.kind](block.lines, depth);
}

const BUILDERS = {
  paragraph: (lines) => el("p", { dir: "auto" }, ...inline(lines.map((line) => line.trim()).join("\n"))),
  heading(lines) {
    const [, marks, text] = HEADING.exec(lines[0]);
    const level = Math.min(6, marks.length + 2); // the page's own headings are above
    return el(`h${level}`, { dir: "auto" }, ...inline(text));
  },
  rule: () => el("hr"),
  quote: (lines, depth) => el("blockquote", { dir: "auto" }, ...inner(lines.map((line) => line.replace(QUOTE, "")), depth)),
  code: codeBlock,
  list: listOf,
  table: tableOf,
};

function inner(lines, depth) {
  return split(lines).map((block) => build(block, depth + 1));
}

function codeBlock(lines) {
  const [, fence, info] = FENCE.exec(lines[0]);
  const last = lines.at(-1).trim();
  const isClosed = lines.length > 1 && last.length >= fence.length && last === fence[0].repeat(last.length);
  const text = lines.slice(1, isClosed ? -1 : undefined).join("\n");
  const language = info.trim().split(/\s/)[0].slice(0, 30);
  return el(
    "figure",
    { class: "code" },
    el("figcaption", {}, el("span", { text: language || "text" }), copyButton("Copy this code", () => text)),
    el("pre", { tabindex: "0", role: "region", "aria-label": `Code, ${language || "text"}` }, el("code", { text })),
  );
}

function listOf(lines, depth) {
  const first = ITEM.exec(lines[0]);
  const base = first[1].length;
  const isOrdered = /\d/.test(first[2]);
  const items = [];
  for (const line of lines) {
    const found = ITEM.exec(line);
    if (found && found[1].length <= base + 1 && (items.length === 0 || /\d/.test(found[2]) === isOrdered)) {
      items.push({ indent: found[1].length + found[2].length + 1, lines: [found[3]] });
    } else {
      const { indent, lines: own } = items.at(-1);
      const spaces = /^ */.exec(line)[0].length;
      own.push(line.slice(Math.min(spaces, indent)));
    }
  }
  const start = isOrdered ? Number.parseInt(first[2], 10) : 1;
  return el(
    isOrdered ? "ol" : "ul",
    { dir: "auto", start: start === 1 ? null : String(start) },
    ...items.map((item) => itemOf(item.lines, depth)),
  );
}

function itemOf(lines, depth) {
  const task = /^\[([ xX])\] +/.exec(lines[0]);
  const nodes = inner(task ? [lines[0].slice(task[0].length), ...lines.slice(1)] : lines, depth);
  // A short item needs no paragraph of its own.
  const flat = nodes[0]?.tagName === "P" ? [...nodes[0].childNodes, ...nodes.slice(1)] : nodes;
  if (!task) return el("li", {}, ...flat);
  const isDone = task[1] !== " ";
  return el("li", { class: "task" }, el("span", { role: "img", "aria-label": isDone ? "done" : "to do", text: isDone ? "☑" : "☐" }), " ", ...flat);
}

function tableOf(lines) {
  const heads = cells(lines[0]);
  const sides = cells(lines[1]).map((cell) => (/^:-*:$/.test(cell) ? "center" : cell.endsWith(":") ? "right" : null));
  const cell = (tag, texts) =>
    heads.map((_, index) => el(tag, { class: sides[index], dir: "auto", scope: tag === "th" ? "col" : null }, ...inline(texts[index] ?? "")));
  return el(
    "div",
    { class: "table", tabindex: "0", role: "region", "aria-label": "Table" },
    el(
      "table",
      {},
      el("thead", {}, el("tr", {}, ...cell("th", heads))),
      el("tbody", {}, ...lines.slice(2).map((line) => el("tr", {}, ...cell("td", cells(line))))),
    ),
  );
}

/** The cells of a table's line; a bar within code or after a backslash ends none. */
function cells(line) {
  const found = [];
  let cell = "";
  let isCode = false;
  const text = line.trim().replace(/^\|/, "");
  for (let at = 0; at < text.length; at += 1) {
    if (text[at] === "\\" && text[at + 1] === "|") {
      cell += "|";
      at += 1;
    } else if (text[at] === "|" && !isCode) {
      found.push(cell.trim());
      cell = "";
    } else {
      if (text[at] === "`") isCode = !isCode && text.indexOf("`", at + 1) > 0;
      cell += text[at];
    }
  }
  if (cell.trim()) found.push(cell.trim());
  return found;
}
