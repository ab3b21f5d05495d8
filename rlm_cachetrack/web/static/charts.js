"use strict";
// Draws the figures of rlm_cachetrack/web/charts.py with Chart.js. Their texts are drawn on a canvas, which does not
// interpret HTML. Times are shown as they are given, in the time zone of the page.

const MINUTE = 60e3, HOUR = 60 * MINUTE, DAY = 24 * HOUR, NARROW_PX = 700;
const TIME_STEPS = [
  1, 2, 5, 10, 20, 50, 100, 200, 500, ...[1, 2, 5, 10, 15, 30].map((one) => one * 1e3), ...[1, 2, 5, 10, 15, 30].map((one) => one * MINUTE),
  ...[1, 2, 3, 6, 12].map((one) => one * HOUR), ...[1, 2, 7, 14].map((one) => one * DAY),
];
const MONTH_STEPS = [1, 2, 3, 6, 12, 24, 60, 120];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const milliseconds = (text) => Date.parse(text.length > 10 ? `${text}Z` : `${text}T00:00:00Z`);

// -- numbers and times, formatted as in the tables ------------------------------------------------

function usd(value) {
  const amount = Math.abs(value), sign = value < 0 ? "-" : "";
  if (amount < 1e-12) return "$0";
  if (amount >= 1) return `${sign}$${amount.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
  const digits = Math.max(4, 2 - Math.floor(Math.log10(amount)));
  if (digits > 10) return `${sign}$${amount.toExponential(1)}`;
  return `${sign}$${amount.toFixed(digits).replace(/(\.\d{4}\d*?)0+$/, "$1")}`;
}

function rate(value) {
  if (value > 0 && value < 0.001) return "<0.1%";
  return value > 0.999 && value < 1 ? ">99.9%" : `${(100 * value).toFixed(1)}%`;
}

// A tick has the digits that tell it from the next one.
function plain(value, step) {
  const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
  return value.toLocaleString("en", { minimumFractionDigits: value ? digits : 0, maximumFractionDigits: digits });
}

function large(value, step) {
  const [unit, size] = [["B", 1e9], ["M", 1e6], ["K", 1e3]].find(([, one]) => Math.abs(value) >= one) || ["", 1];
  return `${plain(value / size, step / size)}${unit && ` ${unit}`}`;
}

const UNITS = {
  usd: { shown: usd, tick: (value, step) => `${value < 0 ? "-" : ""}$${plain(Math.abs(value), step)}` },
  rate: { shown: rate, tick: (value) => `${Math.round(100 * value)}%` },
  count: { shown: (value) => value.toLocaleString("en"), tick: large },
  score: { shown: (value) => value.toFixed(3), tick: plain },
  time: { tick: timeTick },
};

const two = (value) => String(value).padStart(2, "0");

function timeTick(value, step) {
  const time = new Date(value), day = `${MONTHS[time.getUTCMonth()]} ${time.getUTCDate()}`;
  if (step > 14 * DAY) return `${MONTHS[time.getUTCMonth()]} ${time.getUTCFullYear()}`;
  if (step >= DAY || (step >= MINUTE && value % DAY === 0)) return day;
  const clock = `${two(time.getUTCHours())}:${two(time.getUTCMinutes())}`;
  if (step >= MINUTE) return clock;
  return `${clock}:${step >= 1e3 ? two(time.getUTCSeconds()) : (value % MINUTE / 1e3).toFixed(3).padStart(6, "0")}`;
}

function moment(value, bucket) {
  const text = new Date(value).toISOString();
  return bucket >= DAY ? text.slice(0, 10) : `${text.slice(0, 10)} ${text.slice(11, 16)}`;
}

// -- axes -----------------------------------------------------------------------------------------

function timeTicks(min, max, most) {
  const step = TIME_STEPS.find((one) => (max - min) / one <= most), ticks = [];
  if (step) {
    const origin = step >= 7 * DAY ? 4 * DAY : 0; // weeks begin on Mondays
    for (let tick = Math.ceil((min - origin) / step) * step + origin; tick <= max; tick += step) ticks.push(tick);
    return [step, ticks];
  }
  const months = MONTH_STEPS.find((one) => (max - min) / (30 * DAY * one) <= most) || MONTH_STEPS.at(-1), first = new Date(min);
  for (let month = Math.ceil(first.getUTCMonth() / months) * months; ; month += months) {
    const tick = Date.UTC(first.getUTCFullYear(), month, 1);
    if (tick > max) return [months * 30 * DAY, ticks];
    if (tick >= min) ticks.push(tick);
  }
}

function shortened(text, length) { return text.length > length ? `${text.slice(0, length - 1)}…` : text; }

function setTicks(axis, values) { axis.ticks = values.map((value) => ({ value })); }

// Returns Chart.js's options of an axis whose positions have labels: those of models have a line for each part in a narrow window.
function labelledAxis({ labels }, downwards) {
  const narrow = () => innerWidth < NARROW_PX;
  return {
    min: -0.6, max: labels.length - 0.4, reverse: Boolean(downwards), grid: { display: false },
    afterBuildTicks: (axis) => {
      const step = [1, 2, 5, 10, 20, 50, 100].find((one) => labels.length * 15 / one <= axis.chart.height) || 200;
      setTicks(axis, labels.map((_, position) => position).filter((position) => (position + 1) % step === 0));
    },
    ticks: {
      crossAlign: downwards ? "far" : "near", autoSkip: false, font: () => ({ size: narrow() ? 10 : 12 }),
      callback: (value) => {
        const label = labels[value];
        if (!narrow()) return [label].flat().join(" · ");
        return typeof label === "string" ? shortened(label, 16) : label.map((part) => shortened(part, 22));
      },
    },
  };
}

// Returns Chart.js's options of an axis of values or times.
function valueAxis(given, values, isX, hasGrid) {
  const unit = UNITS[given.unit], room = 70;
  const bounds = given.bucket && given.min === undefined
    ? { min: Math.min(...values) - 0.6 * given.bucket, max: Math.max(...values) + 0.6 * given.bucket }
    : { min: given.min, max: given.max };
  if (given.unit === "time") for (const end of ["min", "max"]) bounds[end] = given[end] ? milliseconds(given[end]) : bounds[end] ?? Math[end](...values);
  const isCounted = given.unit === "count" && given.bucket; // iterations
  let step = 1;
  return {
    ...bounds, bounds: isX && (given.bucket || given.unit === "time") ? "data" : "ticks", beginAtZero: given.unit === "usd" || given.unit === "count",
    title: { display: Boolean(given.title), text: given.title || "", color: colour("soft") },
    grid: { color: colour("line"), display: hasGrid }, grace: !isX && given.max === undefined ? "2%" : 0,
    afterBuildTicks: (axis) => {
      if (given.unit === "time") {
        const [found, ticks] = timeTicks(axis.min, axis.max, Math.max((axis.maxWidth || axis.chart.width) / room, 2));
        step = found;
        setTicks(axis, ticks);
      } else step = axis.ticks.length > 1 ? Math.abs(axis.ticks[1].value - axis.ticks[0].value) : 1;
    },
    ticks: {
      maxRotation: 0, autoSkip: given.unit !== "time", includeBounds: false, precision: given.unit === "count" ? 0 : undefined,
      stepSize: given.unit === "rate" && !isX ? 0.25 : undefined, maxTicksLimit: isCounted ? 20 : isX ? 10 : given.unit === "score" ? 8 : 6,
      callback: (value) => unit.tick(value, step),
    },
  };
}

function axes(figure) {
  const values = { x: [], y: [] };
  for (const series of figure.series) {
    for (const name of ["x", "y"]) values[name].push(...positions(figure[name], series[name]));
    if (series.durations) series.durations.forEach((one, index) => values.x.push(milliseconds(series.x[index]) + one));
  }
  const scales = {};
  for (const name of ["x", "y"]) {
    scales[name] = figure[name].labels ? labelledAxis(figure[name], figure.downwards) : valueAxis(figure[name], values[name], name === "x", name === "y" || Boolean(figure.horizontal) || !figure.x.bucket && figure.x.unit !== "time");
    scales[name].stacked = Boolean(figure.stacked);
  }
  if (figure.series.some((one) => one.axis === "rate")) {
    scales.rate = { ...valueAxis({ unit: "rate", min: 0, max: 1.02 }, [], false, false), position: "right", axis: "y" };
  }
  for (const scale of Object.values(scales)) {
    scale.type = "linear";
    scale.offset = false;
    Object.assign(scale.grid, { offset: false, tickLength: 0 });
    scale.ticks.padding = 7;
    scale.border = { color: colour("line") };
    scale.ticks.color = colour("soft");
  }
  return scales;
}

function positions(axis, given) { return axis.unit === "time" ? given.map(milliseconds) : given; }

// -- series ---------------------------------------------------------------------------------------

function thickness(figure) {
  const name = figure.horizontal ? "y" : "x", bucket = figure.horizontal ? 1 : figure[name].bucket;
  const share = figure.stacked || figure.horizontal ? 0.86 : 0.86 / figure.series.length;
  return ({ chart }) => {
    const scale = chart.scales[name];
    return Math.max(Math.abs(scale.getPixelForValue(scale.min + bucket) - scale.getPixelForValue(scale.min)) * share, 1);
  };
}

function dataset(figure, series) {
  const own = colour(series.role === "line" ? "linecolor" : series.role);
  const x = positions(figure.x, series.x), drawn = series.faint ? `${own}73` : own;
  const common = { label: series.name, data: x.map((one, index) => ({ x: one, y: series.y[index] })), backgroundColor: drawn, borderColor: drawn, series };
  if (series.type === "spans") common.data = x.map((start, index) => ({ x: [start, start + series.durations[index]], y: series.y[index] }));
  if (series.type === "bars" || series.type === "spans") {
    const isBeside = !figure.stacked && !figure.horizontal;
    return { ...common, type: "bar", borderWidth: 0, inflateAmount: 0, grouped: isBeside, barThickness: thickness(figure), minBarLength: series.type === "spans" ? 2 : 0, order: 1 };
  }
  if (series.type === "points") {
    return { ...common, type: "line", showLine: false, borderWidth: 0, pointRadius: series.sizes ? series.sizes.map((one) => one / 2) : 5.5, clip: false };
  }
  const isAlone = series.y.map((value, index) => value !== null && (series.y[index - 1] ?? null) === null && (series.y[index + 1] ?? null) === null);
  const radius = series.points ? 3 : isAlone.some(Boolean) ? isAlone.map((one) => (one ? 2 : 0)) : 0;
  return {
    ...common, type: "line", borderWidth: 2, pointRadius: radius, pointBorderWidth: 0, pointHitRadius: 6, stepped: series.steps ? "before" : false,
    borderDash: { dot: [2, 4], dash: [8, 5] }[series.dash] || [], yAxisID: series.axis || "y", stack: `line ${series.name}`,
  };
}

// A band is two lines without a width; the area between them is filled.
function band(figure, series) {
  const edge = { ...dataset(figure, series), borderWidth: 0 };
  const low = { ...dataset(figure, { ...series, y: series.low }), borderWidth: 0, label: `${series.name}, low`, isHidden: true };
  return [low, { ...edge, fill: "-1" }];
}

// -- hovering and clicking ------------------------------------------------------------------------

// Selects the points of all series at the position that is nearest to the pointer. The series may have different positions.
function atPosition(chart, event) {
  const name = chart.options.indexAxis === "y" ? "y" : "x", pointer = Chart.helpers.getRelativePosition(event, chart)[name];
  const metas = chart.getSortedVisibleDatasetMetas();
  let nearest = null;
  for (const { data } of metas) for (const element of data) {
    if (nearest === null || Math.abs(element[name] - pointer) < Math.abs(nearest - pointer)) nearest = element[name];
  }
  const found = [];
  for (const { data, index: datasetIndex } of metas) {
    data.forEach((element, index) => { if (Math.abs(element[name] - nearest) < 0.5) found.push({ element, datasetIndex, index }); });
  }
  return found.sort((one, other) => one.datasetIndex - other.datasetIndex);
}

function tooltip(figure) {
  const isColumn = !figure.horizontal || !figure.downwards, index = figure.horizontal ? "y" : "x", value = figure.horizontal ? "x" : "y";
  const texts = (item) => item.dataset.series.texts?.[item.dataIndex];
  const title = ([item]) => {
    if (!item) return "";
    const at = item.parsed[index];
    if (texts(item)) return texts(item)[0];
    if (item.dataset.series.labels) return item.dataset.series.labels[item.dataIndex];
    if (figure[index].labels) return [figure[index].labels[at]].flat().join(" · ");
    return figure[index].unit === "time" ? moment(at, figure[index].bucket || DAY) : `${figure[index].title || ""} ${UNITS[figure[index].unit].shown(at)}`.trim();
  };
  const text = (item) => {
    if (texts(item)) return texts(item).slice(1);
    const unit = UNITS[item.dataset.series.axis || figure[value].unit], shown = unit.shown(item.parsed[value]);
    if (item.dataset.series.labels) return [`${figure.y.title}: ${shown}`, `${figure.x.title}: ${usd(item.parsed.x)}`];
    if (item.dataset.series.low) return `${item.dataset.label}: ${UNITS[figure.y.unit].shown(item.dataset.series.low[item.dataIndex])} to ${shown}`;
    return `${item.dataset.label}: ${shown}`;
  };
  return {
    animation: false, backgroundColor: colour("raised"), borderColor: colour("line"), borderWidth: 1, titleColor: colour("ink"), bodyColor: colour("ink"),
    multiKeyBackground: colour("raised"), padding: 8, boxPadding: 4, displayColors: isColumn, callbacks: { title, label: text },
    filter: (item) => !item.dataset.isHidden && item.parsed[value] !== null && !Number.isNaN(item.parsed[value]),
  };
}

// A click on a bar opens its day.
function openDay(opens, value) {
  const day = (time) => new Date(time).toISOString().slice(0, 10);
  location.href = `${opens}${opens.includes("?") ? "&" : "?"}since=${day(value)}&until=${day(value + DAY)}`;
}

// -- labels and error bars of points --------------------------------------------------------------

const pointLabels = {
  id: "pointLabels",
  afterDatasetsDraw(chart) {
    const { ctx, chartArea, scales } = chart;
    for (const meta of chart.getSortedVisibleDatasetMetas()) {
      const { series, borderColor } = chart.data.datasets[meta.index];
      if (!series.labels) continue;
      ctx.save();
      ctx.strokeStyle = borderColor;
      ctx.beginPath();
      meta.data.forEach(({ y }, index) => {
        const low = scales.x.getPixelForValue(series.low[index]), high = scales.x.getPixelForValue(series.high[index]);
        if (high - low < 1) return;
        ctx.moveTo(low, y); ctx.lineTo(high, y);
        for (const end of [low, high]) { ctx.moveTo(end, y - 4); ctx.lineTo(end, y + 4); }
      });
      ctx.stroke();
      ctx.fillStyle = colour("ink");
      ctx.font = Chart.helpers.toFont(chart.options.font ?? Chart.defaults.font).string;
      if (chart.options.isNamed) meta.data.forEach(({ x, y }, index) => {
        const fits = x + 8 + ctx.measureText(series.labels[index]).width < chartArea.right;
        ctx.textAlign = fits ? "left" : "right";
        ctx.fillText(series.labels[index], fits ? x + 8 : x - 8, y - 9);
      });
      ctx.restore();
    }
  },
};

// -- drawing --------------------------------------------------------------------------------------

function legend(figure, count) {
  const symbol = ({ series }) => (["bars", "spans", "band"].includes(series.type) ? "rect" : series.type === "points" ? "circle" : "line");
  return {
    display: count > 1, align: "start",
    labels: {
      color: colour("ink"), usePointStyle: true, boxHeight: 8, boxWidth: 16, padding: 12,
      generateLabels: (chart) => Chart.defaults.plugins.legend.labels.generateLabels(chart).map((item) => {
        const own = chart.data.datasets[item.datasetIndex], pointStyle = symbol(own);
        return { ...item, pointStyle, strokeStyle: own.borderColor, lineWidth: pointStyle === "line" ? 2 : 0, lineDash: own.borderDash || [] };
      }).sort((one, other) => one.datasetIndex - other.datasetIndex),
      filter: (item, { datasets }) => !datasets[item.datasetIndex].isHidden,
    },
  };
}

function configuration(figure) {
  const datasets = figure.series.flatMap((series) => (series.type === "band" ? band(figure, series) : [dataset(figure, series)]));
  const isByPoint = figure.downwards || figure.series.some((series) => series.labels);
  return {
    data: { datasets }, plugins: [pointLabels],
    options: {
      animation: false, responsive: true, maintainAspectRatio: false, indexAxis: figure.horizontal ? "y" : "x", isNamed: Boolean(figure.named),
      interaction: isByPoint ? { mode: "nearest", intersect: true } : { mode: "atPosition" },
      scales: axes(figure), plugins: { legend: legend(figure, figure.series.length), tooltip: tooltip(figure) },
      layout: { padding: { top: figure.series.length > 1 ? 0 : 8 } },
      onClick: (_, [item], chart) => { if (figure.opens && item) openDay(figure.opens, chart.getDatasetMeta(item.datasetIndex)._parsed[item.index].x); },
      onHover: (_, items, chart) => { chart.canvas.style.cursor = figure.opens && items.length ? "pointer" : ""; },
    },
  };
}

let loading = null, drawTime = 0, waiting = 0;

// A page that had no chart when it was loaded has no script for charts either: it is loaded with the first chart.
function loadLibrary() {
  loading ??= new Promise((done) => {
    const script = document.createElement("script");
    script.src = document.body.dataset.charts;
    script.onload = done;
    document.head.append(script);
  });
  return loading;
}

async function drawChart(element) {
  const plot = element.querySelector(".plot"), text = element.querySelector("script").textContent, ground = colour("ground");
  if (plot.drawnText === text && plot.drawnGround === ground) return;
  const hasNewColours = plot.drawnGround !== ground;
  Object.assign(plot, { drawnText: text, drawnGround: ground });
  if (!window.Chart) await loadLibrary();
  const started = performance.now(), figure = JSON.parse(text);
  Object.assign(Chart.defaults.font, { family: getComputedStyle(document.body).fontFamily, size: 12 });
  Chart.Interaction.modes.atPosition = atPosition;
  plot.style.height = `${figure.height || 270}px`;
  const { plugins, data, options } = configuration(figure);
  if (plot.chart && !hasNewColours) {
    // A series that the reader has hidden with the legend stays hidden, because its data set stays the same object.
    const known = new Map(plot.chart.data.datasets.map((one) => [one.label, one]));
    plot.chart.data.datasets = data.datasets.map((one) => (known.has(one.label) ? Object.assign(known.get(one.label), one) : one));
    plot.chart.options = options;
    plot.chart.update("none");
  } else {
    // Chart.js keeps the colours of bars that are drawn, so new colours need a new chart.
    for (const one of data.datasets) {
      const known = plot.chart?.data.datasets.findIndex(({ label }) => label === one.label) ?? -1;
      one.hidden = known >= 0 && !plot.chart.isDatasetVisible(known);
    }
    plot.chart?.destroy();
    plot.chart = new Chart(plot.querySelector("canvas") || plot.appendChild(document.createElement("canvas")), { type: "bar", plugins, data, options });
  }
  drawTime = performance.now() - started;
}

// A chart takes more time than the rest of a page, so those out of view are drawn when they are scrolled into view.
const visible = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) drawChart(target);
}, { rootMargin: "200px" });

function draw() {
  visible.disconnect();
  for (const figure of document.querySelectorAll("figure.chart")) visible.observe(figure);
}

// After a change the numbers are shown at once and the charts later, the longer a chart takes: with many open pages on
// a slow computer, the charts of one page would delay the numbers of the others.
function drawSoon() {
  clearTimeout(waiting);
  waiting = setTimeout(draw, Math.min(10 * drawTime, 2000));
}

// Moves the drawn charts of a page into its new content and gives them the new numbers: new charts would flicker.
function keepCharts(current, replacement) {
  const drawn = new Map([...current.querySelectorAll("figure.chart")].map((one) => [one.id, one]));
  for (const figure of replacement.querySelectorAll("figure.chart")) {
    const old = drawn.get(figure.id);
    if (!old) continue;
    old.querySelector("script").textContent = figure.querySelector("script").textContent;
    figure.replaceWith(old);
    drawn.delete(figure.id);
  }
  for (const figure of drawn.values()) figure.querySelector(".plot").chart?.destroy();
}

addEventListener("beforeprint", () => {
  for (const figure of document.querySelectorAll("figure.chart")) {
    drawChart(figure);
    figure.querySelector(".plot").chart?.resize();
  }
});
