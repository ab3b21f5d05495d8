"use strict";
// Keeps the page up to date: when the server sends a change event, the page fetches itself again
// and replaces #content. Without JavaScript the page is complete, but does not update itself.

const root = document.documentElement;
const content = () => document.getElementById("content");

// -- time zone ------------------------------------------------------------------------------------

function zoneField() {
  const field = document.getElementById("zone");
  if (!field) return;
  const local = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (local && ![...field.options].some((one) => one.value === local)) field.add(new Option(`Local (${local})`, local));
  field.hidden = false;
  field.addEventListener("change", () => {
    const address = new URL(location.href);
    if (field.value === "UTC") address.searchParams.delete("tz");
    else address.searchParams.set("tz", field.value);
    location.href = address;
  });
}

// -- light and dark mode --------------------------------------------------------------------------

function themeButton() {
  const button = document.getElementById("theme");
  if (!button) return;
  const stored = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const label = () => { button.textContent = dark() ? "Light mode" : "Dark mode"; };
  if (stored()) root.dataset.theme = stored();
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* storage is blocked: the choice lasts for this page only */ }
    label(); draw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { label(); draw(); });
  label();
}

// -- live -----------------------------------------------------------------------------------------

let fetching = false, again = false, lost = false, missed = false;

function notice(text) {
  const element = document.getElementById("notice");
  if (element.textContent !== text) element.textContent = text;
}

async function refresh() {
  if (document.hidden) { missed = true; return; } // refreshed when the page becomes visible again
  if (fetching) { again = true; return; }
  fetching = true;
  const started = performance.now();
  try {
    const response = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
    const text = await response.text();
    if (response.status === 401) { location.reload(); return; }
    if (response.status === 503) { lost = true; return; }
    if (document.getElementById("problem")) { if (response.ok) location.reload(); return; }
    replaceContent(new DOMParser().parseFromString(text, "text/html"));
  } catch { /* the event stream reports the reason */ } finally {
    // The next refresh waits at least as long as this one took, so that an open page does not keep a slow database busy.
    const took = performance.now() - started;
    setTimeout(() => {
      fetching = false;
      if (again) { again = false; refresh(); }
    }, Math.min(took < 1000 ? took : 4 * took, 5000));
  }
}

// A page whose figures are still being computed fetches itself again.
function fetchAgain() {
  if (content()?.dataset.again) setTimeout(refresh, 1500);
}

function replaceContent(fresh) {
  const next = fresh.getElementById("content");
  if (!next) return;
  const current = content();
  const open = [...current.querySelectorAll("details")].map((one) => one.open);
  const focused = current.contains(document.activeElement) ? [...current.querySelectorAll("a, summary, [tabindex]")].indexOf(document.activeElement) : -1;
  const scrolled = [...current.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
  const before = new Map([...current.querySelectorAll("data")].map((one, index) => [index, one.textContent]));
  const replacement = document.importNode(next, true);
  keepCharts(current, replacement);
  current.replaceWith(replacement);
  replacement.querySelectorAll("details").forEach((one, number) => { if (open[number]) one.open = true; });
  replacement.querySelectorAll(".scroll").forEach((one, number) => { if (scrolled[number]) one.scrollLeft = scrolled[number]; });
  const changed = [...replacement.querySelectorAll("dl.cards data")].filter((one, number) => before.get(number) !== one.textContent);
  for (const one of changed) one.classList.add("flash");
  // Not an animation, which paints the page 60 times a second.
  setTimeout(() => { for (const one of changed) one.classList.remove("flash"); }, 1200);
  if (focused >= 0) { const found = replacement.querySelectorAll("a, summary, [tabindex]")[focused]; if (found) found.focus({ preventScroll: true }); }
  document.body.dataset.rendered = fresh.body.dataset.rendered;
  document.getElementById("updated").textContent = `Updated ${fresh.body.dataset.rendered.slice(11, 19)}.`;
  drawSoon();
  fetchAgain();
}

function listen() {
  const handlers = {
    hello: ({ changed, error }) => {
      if (error) down(error);
      else up(lost || Date.parse(changed) > Date.parse(document.body.dataset.rendered));
    },
    changed: refresh,
    down: ({ error }) => down(error),
    up: () => up(true),
    lost: () => { lost = true; notice("The dashboard's server is not responding. Retrying."); },
  };
  let leave;
  if (window.SharedWorker) {
    const worker = new SharedWorker(document.getElementById("live-script").src);
    worker.port.onmessage = ({ data: [name, data] }) => handlers[name](data);
    leave = () => worker.port.postMessage("leave");
  } else {
    let close = stream((name, data) => handlers[name](data));
    leave = () => close();
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) close();
      else close = stream((name, data) => handlers[name](data));
    });
  }
  document.addEventListener("visibilitychange", () => { if (!document.hidden && missed) { missed = false; refresh(); } });
  setInterval(() => { if (!lost) refresh(); }, 60000);
  addEventListener("pagehide", leave);
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
}

function down(reason) {
  lost = true;
  notice(`The database is not responding. This page shows the state at ${document.body.dataset.rendered.slice(11, 19)} UTC. Retrying. (${reason})`);
}

function up(stale) {
  lost = false;
  notice("");
  if (stale || document.getElementById("problem")) refresh();
}

// -- forms ----------------------------------------------------------------------------------------

function forms() {
  for (const form of document.querySelectorAll("form[data-auto]")) {
    const go = () => {
      const parameters = new URLSearchParams();
      for (const [name, value] of new FormData(form)) if (value) parameters.set(name, value);
      location.href = `${form.getAttribute("action")}?${parameters}`;
    };
    form.addEventListener("submit", (event) => { event.preventDefault(); go(); });
    form.addEventListener("change", (event) => {
      // A named range and dates exclude each other.
      if (event.target.type === "date") { const range = form.querySelector("select[name=range]"); if (range) range.selectedIndex = -1; }
      if (event.target.name === "range") for (const date of form.querySelectorAll("input[type=date]")) date.value = "";
      if (event.target.matches("select")) go();
    });
  }
}

document.addEventListener("DOMContentLoaded", () => {
  themeButton(); zoneField(); forms(); draw(); fetchAgain();
  if (document.body.dataset.live === "yes") listen();
});
