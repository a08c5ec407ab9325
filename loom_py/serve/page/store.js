// Conversations, in this browser's storage; each under a key of its own, so that tabs do not overwrite each other.

const PREFIX = "loom.chat.";
const MOST = 200;
const LONGEST = 2_000_000; // characters; browsers give about 5 million to all together

/** An id nobody guesses; `crypto.randomUUID` is missing where the page came without TLS. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function newConversation(model) {
  return { id: newId(), session: newId(), model, title: "", used: Date.now(), turns: [] };
}

/** All conversations, the one used last first. What cannot be read is passed over. */
export function conversations() {
  const found = [];
  for (const name of names()) {
    const conversation = read(name);
    if (conversation) found.push(conversation);
  }
  return found.sort((a, b) => b.used - a.used);
}

export const load = (id) => read(PREFIX + id);

/** Keep it; where there is no room, the ones used longest ago go. Whether it worked. */
export function save(conversation) {
  const text = JSON.stringify(conversation);
  if (text.length > LONGEST) return false; // it must not push all the others out
  for (;;) {
    try {
      localStorage.setItem(PREFIX + conversation.id, text);
      prune();
      return true;
    } catch {
      const others = attempt(() => conversations().filter((each) => each.id !== conversation.id), []);
      if (!others.length) return false;
      remove(others.at(-1).id);
    }
  }
}

export const remove = (id) => attempt(() => localStorage.removeItem(PREFIX + id));

export const removeAll = () => names().forEach((name) => attempt(() => localStorage.removeItem(name)));

/** Whether a change of the storage, in another tab, concerns conversations. */
export const concerns = (event) => event.key === null || event.key.startsWith(PREFIX);

function prune() {
  const known = names();
  if (known.length > MOST) conversations().slice(MOST).forEach((each) => remove(each.id));
}

function names() {
  return attempt(() => Object.keys(localStorage).filter((name) => name.startsWith(PREFIX)), []);
}

function read(name) {
  const found = attempt(() => JSON.parse(localStorage.getItem(name)), null);
  if (typeof found?.id !== "string" || !Array.isArray(found.turns)) return null;
  for (const turn of found.turns) {
    if (typeof turn?.question !== "string" || !Array.isArray(turn.answer?.parts)) return null;
  }
  return found;
}

function attempt(action, otherwise = undefined) {
  try {
    return action();
  } catch {
    return otherwise;
  }
}
