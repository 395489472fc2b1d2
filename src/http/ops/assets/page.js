// What the operators' page does beyond forms and links. Every page works without it.
"use strict";

const SECOND = 1000;
const REFRESH = 5 * SECOND;
const LOCAL = { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short" };

// Shows the local time of an instant after UTC, unless it is the same, and keeps the distance to now.
function showTimes() {
  const now = Date.now();
  for (const time of document.querySelectorAll("time.when")) {
    const at = new Date(time.dateTime);
    if (at.getTimezoneOffset() !== 0 && !time.querySelector(".local")) {
      // A part of UTC, so that it is at the end of a line and never at the beginning of one.
      time.querySelector(".utc").append(part("dot", " ·"));
      time.append(" ", part("local", at.toLocaleString(undefined, LOCAL)));
    }
    time.querySelector(".rel").textContent = time.matches(".lasting") ? `for ${span(now - at)}` : distance(at - now);
  }
}

function part(className, textContent) {
  return Object.assign(document.createElement("span"), { className, textContent });
}

// "in 2 h 30 min", "5 min 10 s ago", as the service writes it.
function distance(milliseconds) {
  if (Math.abs(milliseconds) < SECOND) return "now";
  return milliseconds > 0 ? `in ${span(milliseconds)}` : `${span(milliseconds)} ago`;
}

function span(milliseconds) {
  const seconds = Math.floor(Math.abs(milliseconds) / SECOND);
  if (seconds < 1) return `${Math.abs(milliseconds)} ms`;
  const units = [
    [Math.floor(seconds / 86400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [seconds % 60, "s"],
  ];
  const first = units.findIndex(([count]) => count > 0);
  const shown = units.slice(first, first + 2).filter(([count]) => count > 0);
  return shown.map(([count, unit]) => `${count} ${unit}`).join(" ");
}

// A box that ticks all boxes of its form.
document.addEventListener("change", (event) => {
  if (!event.target.matches("[data-check-all]")) return;
  for (const box of event.target.form.querySelectorAll("input[name=job]")) box.checked = event.target.checked;
});

function showCopyButtons() {
  for (const box of document.querySelectorAll("[data-check-all]")) box.hidden = false;
  for (const button of document.querySelectorAll("button.copy[hidden]")) {
    button.hidden = false;
  }
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button.copy");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 2 * SECOND);
});

// A second click on the same form would be ignored by the service; this shows that the first one counts.
document.addEventListener("submit", (event) => {
  if (event.target.method === "post") {
    setTimeout(() => {
      for (const button of event.target.querySelectorAll("button:not([type=button])")) button.disabled = true;
    });
  }
});
// A page that comes back from the browser's memory can be sent again.
window.addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("form[method=post] button:disabled")) button.disabled = false;
});

// True while the operator uses the part of the page that would be replaced.
function inUse(live) {
  return live.contains(document.activeElement) || live.querySelector("details[open], input:checked") !== null
    || (!getSelection().isCollapsed && live.contains(getSelection().anchorNode));
}

function refresh() {
  const live = document.getElementById("live");
  if (live && document.hasFocus() && !document.hidden && !inUse(live)) htmx.trigger(document.body, "refresh");
}

function show() {
  showTimes();
  showCopyButtons();
}

// Reports that the page is older than it seems, until a refresh succeeds.
let refreshed = new Date();
function showAge() {
  if (document.getElementById("stale")) return;
  const note = document.createElement("p");
  note.id = "stale";
  note.className = "notice failed";
  note.setAttribute("role", "status");
  note.textContent = `Not refreshed since ${refreshed.toLocaleTimeString()}: the service does not answer.`;
  document.getElementById("live").before(note);
}
function refreshEnded() {
  refreshed = new Date();
  document.getElementById("stale")?.remove();
  show();
}

document.addEventListener("DOMContentLoaded", () => {
  show();
  document.querySelector("form[data-send-at-once]")?.requestSubmit();
  document.body.addEventListener("htmx:afterSwap", refreshEnded);
  for (const failure of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
    document.body.addEventListener(failure, showAge);
  }
  setInterval(refresh, REFRESH);
  setInterval(showTimes, SECOND);
  window.addEventListener("focus", refresh);
});
