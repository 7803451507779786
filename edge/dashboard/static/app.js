"use strict";

const STALE_AFTER_MS = 3000;
const RECONNECT_AFTER_MS = 2000;
const TAGS_SHOWN = 9;
const VIEWS = [["frame", "Frame"], ["heatmap", "Heat map"], ["outline", "Outline"]];

const byId = (id) => document.getElementById(id);
const put = (id, text) => { const node = byId(id); if (node.textContent !== text) node.textContent = text; };
const make = (tag, properties = {}, children = []) => {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
};

const decimals = (value) => (value === null ? "—" : Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3));
const milliseconds = (value) => (value === null ? "—" : `${value.toFixed(value < 10 ? 1 : 0)} ms`);
const whole = (value) => value.toLocaleString("en-US").replaceAll(",", " ");
const clock = (ts) => new Date(ts).toLocaleTimeString("en-GB");
const age = (seconds) => {
  if (seconds < 1) return "now";
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  return seconds < 7200 ? `${Math.floor(seconds / 60)} min` : `${Math.floor(seconds / 3600)} h`;
};
// Rounded down: 99.96 % with a rejected part among them is not 100.0 %.
const percent = (part, all) => (all === 0 ? "—" : `${(Math.floor((part / all) * 1000) / 10).toFixed(1)} %`);

let chosenView = "heatmap";
let newest = null;
let lastEventMs = 0;
let lastTrend = [];

/* A picture in one of its views. What is asked for while one loads is skipped, but for the newest. */
class Viewer {
  constructor(figure, onShown) {
    this.figure = figure;
    this.onShown = onShown;
    this.goal = null;
    this.shown = "";
    this.loading = false;
  }

  show(record) {
    const view = record.views.includes(chosenView) ? chosenView : record.views[0];
    this.goal = { record, view, key: `${record.result_id}/${view}` };
    this.figure.classList.toggle("behind", this.goal.key !== this.shown);
    if (!this.loading) this.load();
  }

  clear() {
    this.goal = null;
    this.shown = "";
    this.figure.replaceChildren();
  }

  async load() {
    this.loading = true;
    while (this.goal && this.goal.key !== this.shown) {
      const { record, view, key } = this.goal;
      let image = null;
      if (view !== undefined) {
        image = make("img", { alt: `Part ${record.seq}: ${view}`, fetchPriority: "high", src: `/inspections/${key}` });
        await image.decode().catch(() => { image = null; }); // no longer kept, or the station went away
      }
      this.shown = key;
      if (image) this.paint(image, view, record);
      else this.figure.replaceChildren(make("p", { className: "none", textContent: "No picture of this part" }));
      this.figure.classList.toggle("behind", this.goal?.key !== key);
      this.onShown(record);
    }
    this.loading = false;
  }

  paint(image, view, record) {
    const sheet = make("div", { className: "sheet" }, [image]);
    if (view !== "frame") {
      record.defects.slice(0, TAGS_SHOWN).forEach(({ box: [x, y, width] }, index) => {
        const tag = make("span", { className: "tag", textContent: index + 1, ariaHidden: "true" });
        tag.style.left = `${Math.min(96, Math.max(4, (x + width / 2) * 100))}%`;
        tag.style.top = `${Math.max(9, y * 100)}%`;
        sheet.append(tag);
      });
    }
    this.figure.replaceChildren(sheet);
    if (view === "heatmap") {
      const ends = ["0", "limit", "2 × limit"].map((textContent) => make("span", { textContent }));
      this.figure.append(make("div", { className: "legend" }, [make("img", { alt: "Colour scale", src: "/colour-scale" }), make("p", {}, ends)]));
    } else if (view !== chosenView) {
      this.figure.append(make("div", { className: "legend", textContent: "Not analysed: only the frame exists" }));
    }
  }
}

const partName = (part) => (part.part_id === null ? `Part #${part.seq}` : `Part ${part.part_id}`);
const live = new Viewer(byId("live"), (part) => put("part", `${partName(part)} · ${clock(part.ts)}`));
const large = new Viewer(byId("large-picture"), () => {});

function chooseView(view) {
  chosenView = view;
  for (const input of document.querySelectorAll(".views input")) input.checked = input.value === view;
  for (const viewer of [live, large]) if (viewer.goal) viewer.show(viewer.goal.record);
}

function showVerdict(outcome, caption, word, reason) {
  document.body.dataset.verdict = outcome;
  byId("shape").setAttribute("href", `#shape-${outcome}`);
  put("caption", caption);
  put("word", word);
  put("reason", reason ?? "");
}

function showPart(part, ageSeconds, pixelThreshold) {
  const isNew = !newest || newest.result_id !== part.result_id;
  showVerdict(part.verdict, partName(part), part.verdict, part.reason);
  put("score", decimals(part.score));
  put("threshold", decimals(part.threshold));
  byId("meter-fill").style.width = part.score === null ? "0" : `${Math.min(100, (part.score / part.threshold) * 50)}%`;
  put("latency-ms", milliseconds(part.durable_ms));
  put("infer-ms", milliseconds(part.infer_ms));
  put("age", age(ageSeconds));
  put("recipe", part.recipe);
  put("model", part.model);
  byId("simulated").hidden = !part.is_simulated;
  if (!isNew) return;
  if (part.verdict !== "OK" || !newest || newest.verdict !== "OK") {
    put("announce", `${partName(part)}: ${part.verdict}${part.reason ? `, ${part.reason}` : ""}`);
  }
  newest = part;
  live.show(part);
  showDefects(part, pixelThreshold);
}

function showDefects(part, pixelThreshold) {
  put("defects-total", part.defects_total ? `${part.defects_total}` : "");
  const head = make("tr", {}, ["No.", "Area px", "Peak × limit", "x, y px"].map((textContent) => make("th", { textContent, scope: "col" })));
  const rows = part.defects.slice(0, TAGS_SHOWN).map((defect, index) => make("tr", {}, [
    make("td", {}, [make("b", { textContent: index + 1 })]),
    make("td", { textContent: whole(defect.area_px) }),
    make("td", { textContent: `${(defect.peak / pixelThreshold).toFixed(1)} ×` }),
    make("td", { textContent: defect.centroid_px.map(Math.round).join(", ") }),
  ]));
  if (part.defects_total > rows.length) {
    rows.push(make("tr", {}, [make("td", { className: "empty", colSpan: 4, textContent: `and ${part.defects_total - rows.length} more` })]));
  }
  const none = { OK: "None", NG: "No single spot reaches the pixel limit" }[part.verdict] ?? "Not analysed";
  byId("defects").replaceChildren(...(rows.length ? [head, ...rows] : [make("tr", {}, [make("td", { className: "empty", textContent: none })])]));
}

function showStation(station) {
  const chip = (id, level, text) => { byId(id).dataset.level = level; byId(id).lastElementChild.textContent = text; byId(id).title = text; };
  chip("camera", station.camera_streams ? "good" : "bad", station.camera_streams ? "streaming" : station.camera_state);
  const waiting = station.outbox_pending ? ` · ${whole(station.outbox_pending)} waiting` : "";
  chip("broker", station.broker_connected ? "good" : "bad", (station.broker_connected ? "connected" : "offline") + waiting);
  chip("rate", "plain", `${station.throughput_per_s.toFixed(1)} parts/s`);
}

function showCounts(counts) {
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
  put("count-total", whole(total));
  for (const [outcome, count] of Object.entries(counts)) put(`count-${outcome}`, whole(count));
  put("yield", percent(counts.OK, total));
}

const thumbnails = new Map();

function showRejected(rejected) {
  put("rejected-note", rejected.length ? `last ${rejected.length}` : "");
  const ids = rejected.map((part) => part.result_id);
  if (byId("strip").dataset.ids === ids.join()) return;
  byId("strip").dataset.ids = ids.join();
  for (const id of thumbnails.keys()) if (!ids.includes(id)) thumbnails.delete(id);
  for (const part of rejected) {
    if (thumbnails.has(part.result_id)) continue;
    const source = { alt: "", loading: "lazy", fetchPriority: "low", src: `/inspections/${part.result_id}/thumbnail` };
    const image = part.has_picture ? make("img", source) : make("div");
    const label = make("span", {}, [`#${part.seq}`, make("b", { textContent: `${(part.score / part.threshold).toFixed(1)} ×`, title: "score ÷ limit" })]);
    const button = make("button", { type: "button", ariaLabel: `Rejected part ${part.seq}, ${clock(part.ts)}` }, [image, label]);
    button.addEventListener("click", () => openLarge(part));
    thumbnails.set(part.result_id, make("li", {}, [button]));
  }
  const items = ids.map((id) => thumbnails.get(id));
  byId("strip").replaceChildren(...(items.length ? items : [make("li", { className: "empty", textContent: "None so far" })]));
}

async function openLarge(part) {
  let record;
  try {
    const answer = await fetch(`/inspections/${part.result_id}`);
    record = answer.ok ? await answer.json() : null;
  } catch {
    record = null; // the banner tells that the station went away
  }
  put("large-title", `Part #${part.seq} · NG · ${clock(part.ts)}`);
  large.clear();
  if (record) {
    const spots = record.defects_total === 1 ? "1 defect" : `${record.defects_total} defects`;
    put("large-facts", `Score ${decimals(record.score)}, limit ${decimals(record.threshold)} · ${spots} · ${record.recipe}`);
    large.show(record);
  } else {
    put("large-facts", "This part is no longer kept.");
  }
  if (!byId("large").open) byId("large").showModal();
}

function drawTrend(trend) {
  const canvas = byId("trend");
  const width = canvas.clientWidth, height = canvas.clientHeight, ratio = window.devicePixelRatio || 1;
  if (!width || !height) return;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
  const scored = trend.filter(([, , score]) => score !== null);
  const limits = scored.map(([, , , threshold]) => threshold);
  const limit = limits.length ? limits[limits.length - 1] : 1;
  const highest = Math.max(0, ...scored.map(([, , score]) => score));
  const top = Math.max(...limits, limit) * Math.min(4, Math.max(1.5, (highest / limit) * 1.1));
  const left = 10, right = width - 84, ceiling = 12, floor = height - 16;
  const step = (right - left) / 199;
  const x = (index) => right - (trend.length - 1 - index) * step;
  const y = (value) => floor - (Math.min(Math.max(value, 0), top) / top) * (floor - ceiling);

  pen.strokeStyle = colour("--edge");
  pen.beginPath();
  pen.moveTo(left, floor);
  pen.lineTo(right, floor);
  pen.stroke();

  pen.strokeStyle = colour("--quiet");
  pen.globalAlpha = .55;
  pen.beginPath();
  let joined = false;
  trend.forEach(([, , score], index) => {
    if (score !== null) pen[joined ? "lineTo" : "moveTo"](x(index), y(score));
    joined = score !== null;
  });
  pen.stroke();
  pen.globalAlpha = 1;

  pen.strokeStyle = colour("--limit");
  pen.lineWidth = 2;
  pen.setLineDash([8, 5]);
  pen.beginPath();
  joined = false;
  trend.forEach(([, , , threshold], index) => {
    if (threshold === null) return;
    pen[joined ? "lineTo" : "moveTo"](joined ? x(index) : left, y(threshold));
    joined = true;
  });
  pen.lineTo(right + 8, y(limit));
  pen.stroke();
  pen.setLineDash([]);
  pen.font = `600 13px ${getComputedStyle(document.body).fontFamily}`;
  pen.fillStyle = colour("--limit");
  if (limits.length) pen.fillText(decimals(limit), right + 14, y(limit) + 5);
  pen.fillStyle = colour("--quiet");
  pen.fillText("0", right + 14, floor + 4);

  trend.forEach(([, outcome, score], index) => drawMark(pen, outcome, x(index), score === null ? floor : y(score), score > top, colour));
  const over = trend.filter(([, outcome]) => outcome === "NG").length;
  put("trend-note", trend.length ? `last ${trend.length} · ${over} NG` : "");
  canvas.ariaLabel = `Scores of the last ${trend.length} parts, ${over} of them NG, limit ${decimals(limit)}`;
}

/* Each outcome has its own shape as well as its colour. */
function drawMark(pen, outcome, x, y, beyond, colour) {
  pen.fillStyle = colour(`--${outcome.toLowerCase()}-bright`);
  pen.beginPath();
  if (outcome === "OK") pen.arc(x, y, 2.5, 0, 7);
  else if (outcome === "NG" && beyond) [[0, -8], [6, 3], [-6, 3]].forEach(([dx, dy]) => pen.lineTo(x + dx, y + dy + 2));
  else if (outcome === "NG") pen.rect(x - 4.5, y - 4.5, 9, 9);
  else if (outcome === "INVALID") [[0, -12], [6, 0], [-6, 0]].forEach(([dx, dy]) => pen.lineTo(x + dx, y + dy));
  else pen.rect(x - 2, y - 14, 4, 14);
  pen.fill();
}

function render(state) {
  const { station, newest: part } = state;
  lastTrend = state.trend;
  put("station", state.place[3]);
  put("place", state.place.slice(0, 3).join(" · "));
  document.title = `${state.place[3]} – inspection`;
  showStation(station);
  showCounts(state.counts);
  if (part) showPart(part, state.newest_age_s, state.pixel_threshold);
  if (!station.camera_streams) showVerdict("OFFLINE", "Nothing is inspected", "NO CAMERA", "");
  else if (!part) showVerdict("WAITING", "No part yet", "WAITING", "");
  showRejected(state.ng);
  drawTrend(state.trend);
  document.body.classList.remove("lost");
  document.body.classList.toggle("idle", !station.camera_streams);
  showBanner(station.camera_streams ? "" : `Camera ${station.camera_state.toLowerCase()}: ${station.camera_reason}`, "camera");
}

function showBanner(text, level) {
  put("banner", text);
  byId("banner").dataset.level = level;
  byId("banner").hidden = text === "";
}

function showLost() {
  document.body.classList.replace("idle", "lost") || document.body.classList.add("lost");
  showVerdict("OFFLINE", "Nothing shown is live", "OFFLINE", "");
  showBanner("Connection to the station lost – nothing on this page is live", "lost");
}

function connect() {
  const source = new EventSource("/events");
  source.onmessage = (event) => {
    lastEventMs = performance.now();
    render(JSON.parse(event.data));
  };
  source.onerror = () => {
    lastEventMs = -Infinity;
    showLost();
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, RECONNECT_AFTER_MS);
    showSession();
  };
}

async function showSession() {
  const answer = await fetch("/session").catch(() => null); // the banner tells that the station went away
  if (answer?.status === 401) location.assign("/login");
  if (!answer?.ok) return;
  const session = await answer.json(); // null without passwords
  byId("session").hidden = !session;
  put("user", session ? `${session.user} (${session.role})` : "");
  byId("count-anew").hidden = session?.role !== "operator";
}

for (const group of document.querySelectorAll(".views")) {
  VIEWS.forEach(([value, label], index) => {
    const input = make("input", { type: "radio", name: `view-${group.dataset.group}`, value, checked: value === chosenView });
    input.addEventListener("change", () => chooseView(value));
    group.append(make("label", {}, [input, label, make("kbd", { textContent: index + 1 })]));
  });
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (["1", "2", "3"].includes(event.key)) chooseView(VIEWS[event.key - 1][0]);
});
byId("count-anew").addEventListener("click", () => fetch("/counters/anew", { method: "POST" }));
byId("log-out").addEventListener("click", async () => { await fetch("/logout", { method: "POST" }); location.assign("/login"); });
byId("large-close").addEventListener("click", () => byId("large").close());
new ResizeObserver(() => drawTrend(lastTrend)).observe(byId("trend"));
setInterval(() => { if (performance.now() - lastEventMs > STALE_AFTER_MS) showLost(); }, 250);
connect();
showSession();
