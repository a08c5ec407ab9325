// Light, dark, or as the system has it.

const WORDS = { system: "as the system", light: "light", dark: "dark" };

export function themeButton(button) {
  const root = document.documentElement;
  const show = () => {
    const now = root.dataset.theme ?? "system";
    button.setAttribute("aria-label", `Theme: ${WORDS[now]}`);
    button.title = `Theme: ${WORDS[now]}`;
  };
  button.addEventListener("click", () => {
    // The first press must change what is seen.
    const isDark = window.matchMedia("(prefers-color-scheme: dark)").matches;
    const order = isDark ? ["system", "light", "dark"] : ["system", "dark", "light"];
    const next = order[(order.indexOf(root.dataset.theme ?? "system") + 1) % 3];
    if (next === "system") delete root.dataset.theme;
    else root.dataset.theme = next;
    try {
      if (next === "system") localStorage.removeItem("loom.theme");
      else localStorage.setItem("loom.theme", next);
    } catch {
      // It then holds for this page.
    }
    show();
  });
  show();
}
