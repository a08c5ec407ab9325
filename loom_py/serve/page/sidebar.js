// On narrow screens the list of conversations is a drawer, and what is behind it cannot be reached.

const $ = (id) => document.getElementById(id);

export function openSidebar() {
  document.body.classList.add("sidebar-open");
  $("backdrop").hidden = false;
  $("main-column").inert = true;
  $("open-sidebar").setAttribute("aria-expanded", "true");
  $("close-sidebar").focus();
}

/** Whether it was open. */
export function closeSidebar() {
  if (!document.body.classList.contains("sidebar-open")) return false;
  document.body.classList.remove("sidebar-open");
  $("backdrop").hidden = true;
  $("main-column").inert = false;
  $("open-sidebar").setAttribute("aria-expanded", "false");
  $("open-sidebar").focus();
  return true;
}
