// Elements are made here and nowhere from markup: text is always text.

const SVG = "http://www.w3.org/2000/svg";

/** An element with properties (`class`, `text`, `data`, handlers, attributes) and children. */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") node.className = value;
    else if (name === "text") node.textContent = value;
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** One of the symbols of index.html. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** A button that copies what `text()` gives and says so for a moment. */
export function copyButton(label, text, className = "quiet") {
  const word = el("span", { text: "Copy" });
  const picture = icon("copy");
  const button = el("button", { type: "button", class: className, "aria-label": label }, picture, word);
  let timer = 0;
  button.addEventListener("click", async () => {
    const worked = await copy(text());
    word.textContent = worked ? "Copied" : "Not copied";
    picture.firstChild.setAttribute("href", worked ? "#i-check" : "#i-copy");
    say(worked ? "Copied" : "It could not be copied");
    clearTimeout(timer);
    timer = setTimeout(() => {
      word.textContent = "Copy";
      picture.firstChild.setAttribute("href", "#i-copy");
    }, 1500);
  });
  return button;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyTheOldWay(text); // the clipboard's API is missing where the page came without TLS
  }
}

function copyTheOldWay(text) {
  const before = document.activeElement;
  const area = el("textarea", { class: "visually-hidden", readonly: true, "aria-hidden": "true" });
  area.value = text;
  document.body.append(area);
  area.select();
  const worked = document.execCommand("copy");
  area.remove();
  before?.focus();
  return worked;
}

/** Tell those who listen to the page instead of looking at it. */
export function say(text) {
  document.getElementById("status").textContent = text;
}
