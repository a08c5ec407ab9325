// The dialog that asks for the API key. It is kept for this tab and shown nowhere.

import { key } from "./stream.js";

let dialog = null;
let answer = null;

export function keyDialog(node) {
  dialog = node;
  const input = node.querySelector("input");
  node.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    const given = input.value.trim();
    // What no header can hold would fail later, and not say why.
    if (!/^[\x21-\x7e]+$/.test(given)) {
      tell("A key is made of letters, digits and signs, without spaces.");
      return;
    }
    key.set(given);
    close(true);
  });
  node.querySelector("#key-cancel").addEventListener("click", () => close(false));
  node.addEventListener("cancel", (event) => {
    event.preventDefault();
    close(false);
  });
}

/** Ask for the key, saying what was wrong with the last one. Whether one was given. */
export function askForKey(problem) {
  answer?.(false);
  dialog.querySelector("input").value = "";
  tell(problem);
  if (!dialog.open) dialog.showModal();
  dialog.querySelector("input").focus();
  return new Promise((resolve) => {
    answer = resolve;
  });
}

function tell(problem) {
  dialog.querySelector(".problem").textContent = problem;
  dialog.querySelector("input").setAttribute("aria-invalid", String(problem !== ""));
}

function close(isGiven) {
  dialog.querySelector("input").value = "";
  dialog.close();
  const tellIt = answer;
  answer = null;
  tellIt?.(isGiven);
}
