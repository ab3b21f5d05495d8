"use strict";
// Draws the charts and keeps the page up to date: when the server sends a change event, the page fetches itself again
// and replaces #content. Without JavaScript the page is complete, but does not update itself.

const root = document.documentElement;
const content = () => document.getElementById("content");
const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();

// -- charts ---------------------------------------------------------------------------------------

function themed(figure) {
  const ink = colour("ink"), soft = colour("soft"), line = colour("line");
  const axis = (given) => ({ gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true, ...given });
  const layout = {
    height: 270, margin: { t: figure.data.length > 1 ? 44 : 10, r: 10, b: 30, l: 45 }, font: { color: soft, family: "inherit", size: 12 },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: figure.data.length > 1,
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, traceorder: "normal", font: { color: ink } },
    hoverlabel: { bgcolor: colour("raised"), bordercolor: line, font: { color: ink } },
    bargap: 0.15, ...figure.layout,
  };
  for (const name of ["xaxis", "yaxis", ...(layout.yaxis2 ? ["yaxis2"] : [])]) layout[name] = axis(layout[name]);
  // In a narrow window long names on the axis leave no room for the bars: models have two lines, calls have numbers.
  if (layout.yaxis.ticktext && innerWidth < 700 && figure.layout.meta?.two_lines) {
    layout.yaxis.ticktext = layout.yaxis.ticktext.map((name) => name.replace(" · ", "<br>"));
    layout.yaxis.tickfont = { size: 10 };
  } else if (layout.yaxis.ticktext && innerWidth < 700) { delete layout.yaxis.ticktext; Object.assign(layout.yaxis, { tickvals: null, tickmode: "linear", tick0: 1, dtick: Math.ceil(layout.yaxis.range[0] / 10) }); }
  const data = figure.data.map((trace) => {
    const own = colour(trace.meta === "line" ? "linecolor" : trace.meta);
    const shown = { ...trace, marker: { color: own, ...trace.marker }, line: { color: own, width: 2, ...trace.line } };
    if (trace.fill) shown.fillcolor = own;
    if (trace.error_x) shown.error_x = { color: own, ...trace.error_x };
    return shown;
  });
  for (const trace of data) if (trace.type === "bar") delete trace.line;
  return { data, layout };
}


let loading = null;

// A page that had no chart when it was loaded has no script for charts either: it is loaded with the first chart.
function loadPlotly() {
  loading ??= new Promise((done) => {
    const script = document.createElement("script");
    script.src = document.body.dataset.plotly;
    script.onload = done;
    document.head.append(script);
  });
  return loading;
}

async function drawChart(figure) {
  const text = figure.querySelector("script").textContent, plot = figure.querySelector(".plot");
  if (plot.drawn === text) return;
  plot.drawn = text;
  if (!window.Plotly) await loadPlotly();
  const { data, layout } = themed(JSON.parse(text));
  Plotly.react(plot, data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
  if (layout.meta?.opens && !plot.classList.contains("opens")) {
    plot.classList.add("opens");
    plot.on("plotly_click", ({ points: [point] }) => openDay(figure, String(point.x).slice(0, 10)));
  }
}

// Drawing takes most of a page's time. Therefore charts out of view are drawn when they are scrolled into view, and after
// a change the numbers are shown at once, the charts a second later, those of one page at a time: otherwise the charts
// of many open pages would delay the numbers of the last one. Browsers have locks on secure origins and on this machine.
const visible = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    if (navigator.locks && target.querySelector(".main-svg")) navigator.locks.request("charts", () => drawChart(target));
    else drawChart(target);
  }
}, { rootMargin: "200px" });

let drawing = 0;

function draw() {
  drawing = 0;
  visible.disconnect();
  for (const figure of document.querySelectorAll("figure.chart")) visible.observe(figure);
}

function drawSoon() {
  drawing ||= setTimeout(draw, 1000);
}

function drawAll() {
  document.querySelectorAll("figure.chart").forEach(drawChart);
}

// In the colours of the other mode. Charts that are not drawn yet will have them.
function recolour() {
  for (const figure of document.querySelectorAll("figure.chart:has(.main-svg)")) {
    figure.querySelector(".plot").drawn = null;
    drawChart(figure);
  }
}

// A click on a bar opens its day.
function openDay(figure, day) {
  const { opens } = JSON.parse(figure.querySelector("script").textContent).layout.meta;
  const next = new Date(`${day}T00:00:00Z`);
  next.setUTCDate(next.getUTCDate() + 1);
  location.href = `${opens}${opens.includes("?") ? "&" : "?"}since=${day}&until=${next.toISOString().slice(0, 10)}`;
}

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
    label(); recolour();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { label(); recolour(); });
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
  // Keep the drawn charts and give them the new numbers: new charts would flicker.
  const charts = new Map([...current.querySelectorAll("figure.chart")].map((one) => [one.id, one]));
  const before = new Map([...current.querySelectorAll("data")].map((one, index) => [index, one.textContent]));
  for (const chart of next.querySelectorAll("figure.chart")) {
    const old = charts.get(chart.id);
    if (!old) continue;
    old.querySelector("script").textContent = chart.querySelector("script").textContent;
    chart.replaceWith(old);
  }
  const replacement = document.importNode(next, false);
  replacement.append(...next.childNodes);
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
  addEventListener("beforeprint", drawAll);
  if (document.body.dataset.live === "yes") listen();
});
