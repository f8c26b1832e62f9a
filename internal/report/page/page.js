"use strict";
// The model is that of model.go. Texts of it only ever get into text nodes.
const model = JSON.parse(document.getElementById("data").textContent);
const files = model.files || [];
const $ = (id) => document.getElementById(id);
const body = (id) => $(id).querySelector(".body");

// h makes an element: attributes beginning with "on" are listeners.
function h(tag, attributes, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes || {})) {
    if (v === undefined || v === null || v === false) continue;
    if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
    else if (k === "className") e.className = v;
    else e.setAttribute(k, v === true ? "" : v);
  }
  for (const c of children.flat()) if (c !== undefined && c !== null && c !== "" && c !== false) e.append(c);
  return e;
}

function span(ms) {
  if (ms < 0) return "?";
  if (ms < 1000) return (ms < 10 ? ms.toFixed(1) : Math.round(ms)) + " ms";
  if (ms < 60000) return (ms / 1000).toFixed(2) + " s";
  const s = Math.round(ms / 1000), rest = s % 60, m = Math.floor(s / 60);
  return m < 60 ? m + " min " + rest + " s" : Math.floor(m / 60) + " h " + (m % 60) + " min";
}
const bytes = (n) => n < 1024 ? n + " B" : n < 1 << 20 ? (n / 1024).toFixed(1) + " KiB" : n < 2 ** 30 ? (n / 2 ** 20).toFixed(0) + " MiB" : (n / 2 ** 30).toFixed(1) + " GiB";
const word = (status) => String(status).replace(/_/g, " ");
const fileName = (f) => f.path + ((model.runs || []).length > 1 ? runName(model.runs[f.run]) : "");
function runName(r) {
  if (!r) return "";
  return " (" + (r.shard ? "shard " + r.shard + (r.iteration > 1 ? ", " : "") : "") + (!r.shard || r.iteration > 1 ? "iteration " + r.iteration : "") + ")";
}
const isFailed = (s) => s === "failed" || s === "unfinished";
const fileFailed = (f) => f.status !== "passed" && f.status !== "not started";

const tests = [];
const counts = { passed: 0, failed: 0, flaky: 0, skipped: 0, unfinished: 0 };
for (const f of files) for (const t of f.tests) {
  t.file = f;
  tests.push(t);
  counts[t.status]++;
}

// --- the head ---------------------------------------------------------------

function head() {
  const runs = model.runs || [];
  const bad = files.filter(fileFailed);
  const open = runs.some((r) => r.exit < 0);
  const ok = !bad.length && !open && runs.every((r) => r.exit === 0);
  const verdict = open ? "The run did not end" : ok ? (counts.flaky ? "Passed, with flaky tests" : "Passed") : "Failed";
  document.title = verdict + " – " + model.title;
  const r = runs[0] || {};
  const start = new Date(model.start);
  $("head").append(
    h("h1", {}, h("span", { className: open ? "s-unfinished" : ok ? (counts.flaky ? "s-flaky" : "s-passed") : "s-failed" }, verdict)),
    h("div", { className: "dim" }, [r.project, start.toISOString().replace("T", " ").slice(0, 19) + " UTC", span(model.end),
      r.accelerator, r.seed !== undefined && "seed " + r.seed, r.version && "Provium " + r.version].filter(Boolean).join(" · ")),
    h("div", { className: "tiles" },
      ["failed", "flaky", "unfinished", "passed", "skipped"].filter((s) => counts[s] || s === "passed" || s === "failed")
        .map((s) => h("div", { className: "tile" }, h("b", { className: "s-" + s }, String(counts[s])), (counts[s] === 1 ? "test " : "tests ") + s)),
      h("div", { className: "tile" }, h("b", { className: bad.length ? "s-failed" : "" }, bad.length + " of " + files.length), "files failed"),
      h("div", { className: "tile" }, h("b", {}, String(files.reduce((n, f) => n + (f.guests || []).filter((g) => g.up >= 0).length, 0))), "guests")));
  for (const note of model.notes || []) $("head").append(h("p", { className: "s-unfinished" }, note));
  if (model.lost) $("head").append(h("p", { className: "s-unfinished" }, model.lost + " events are missing, which a slow reader did not get."));
  for (const s of document.querySelectorAll("main > section")) {
    if (!s.hidden) $("nav").append(h("a", { href: "#" + s.id }, s.querySelector("h2").textContent));
  }
}

// --- what is known of a test ------------------------------------------------

function block(title, text) {
  return text ? [h("h4", {}, title), h("pre", { tabindex: 0 }, text)] : [];
}

function operations(d) {
  if (!d.ops || !d.ops.length) return [];
  const rows = [], first = d.ops[0].start;
  const half = Math.ceil(d.ops.length / 2);
  let i = 0;
  while (i < d.ops.length) {
    const o = d.ops[i];
    let n = 1;
    while (i + n < d.ops.length && d.ops[i + n].call === o.call && d.ops[i + n].where === o.where && d.ops[i + n].vm === o.vm) n++;
    const last = d.ops[i + n - 1];
    rows.push(h("tr", {},
      h("td", { className: "num" }, "+" + span(o.start - first)),
      h("td", { className: "num" }, span(last.start + last.ms - o.start)),
      h("td", {}, o.vm || ""),
      h("td", {}, h("code", {}, o.call), n > 1 && h("span", { className: "dim" }, " ×" + n + ", last:"),
        last.result && h("div", { className: last.failed ? "s-failed" : "dim" }, last.result),
        last.output && h("pre", {}, last.output)),
      h("td", { className: "dim" }, o.where || "")));
    if (d.opsCut && i < half && i + n >= half) rows.push(h("tr", {}, h("td", { colspan: 5, className: "dim" }, d.opsCut + " operations are left out here")));
    i += n;
  }
  return [h("h4", {}, "Operations"), h("div", { className: "wide" }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", { className: "num" }, "at"), h("th", { className: "num" }, "took"), h("th", {}, "guest"), h("th", {}, "call"), h("th", {}, "where"))),
    h("tbody", {}, rows)))];
}

function attachments(d) {
  if (!d.files || !d.files.length) return [];
  return [h("h4", {}, "Attachments"), h("ul", {}, d.files.map((a) => h("li", {},
    a.data ? h("a", { href: "data:application/octet-stream;base64," + a.data, download: a.name.replace(/[^\w.-]/g, "_") }, a.name) : a.name,
    h("span", { className: "dim" }, " " + bytes(a.size) + (a.data ? "" : ", not in this page")))))];
}

function details(f, t, d) {
  d = d || {};
  const guests = (f.guests || []).filter((g) => !t || g.begin <= t.start + t.ms && (g.down < 0 || g.down >= t.start));
  const marks = (f.marks || []).filter((m) => !t || m.at <= t.start + t.ms + 1 && m.at >= t.start - 1);
  return [
    t && h("p", { className: "dim" }, [fileName(f), t.where, span(t.ms), (t.tags || []).length && "tags " + t.tags.join(", "), (t.spec || []).length && "spec " + t.spec.join(", ")].filter(Boolean).join(" · ")),
    t && block(t.status === "skipped" ? "Reason" : "Why", t.text),
    d.folder && h("p", {}, h("a", { href: d.folder }, "Folder with all that is left of it")),
    (d.tries || []).map((x, i) => block("Attempt " + (i + 1) + " failed after " + span(x.ms), x.text)),
    block("Log", (d.log || []).join("\n")),
    block("Output", d.output),
    (d.steps || []).length ? [h("h4", {}, "Steps"), h("table", {}, h("tbody", {}, d.steps.map((s) => h("tr", {},
      h("td", { className: "num" }, span(s.ms)), h("td", {}, "  ".repeat(s.depth) + s.name, s.failed && h("span", { className: "s-failed" }, " failed"))))))] : [],
    operations(d),
    marks.length ? [h("h4", {}, "Changes and faults"), h("table", { className: "marks" }, h("tbody", {}, marks.slice(0, 200).map((m) => h("tr", {},
      h("td", { className: "num" }, "+" + span(m.at - (t ? t.start : f.start))), h("td", {}, m.kind), h("td", {}, m.vm || ""), h("td", {}, h("code", {}, m.text))))))] : [],
    attachments(d),
    block("Consoles at the failure", d.console),
    guests.filter((g) => g.console).map((g) => h("details", {}, h("summary", {}, "Console of " + g.vm + (g.reason ? " (" + g.reason + ")" : "")), h("pre", { tabindex: 0 }, g.console))),
    h("h4", {}, "Again"), h("pre", { tabindex: 0 }, again(f, t)),
  ];
}

const quoted = (s) => /^[\w./:=@%+-]+$/.test(s) ? s : "'" + s.replace(/'/g, "'\\''") + "'";
function again(f, t) {
  const r = (model.runs || [])[f.run] || {};
  return ["provium", quoted(t ? f.path + "::" + t.name : f.path), r.repeat].filter(Boolean).join(" ");
}

let opener = null;
function show(t) {
  opener = opener || document.activeElement;
  $("detail").replaceChildren(
    h("button", { className: "close", onclick: hide }, "Close (Esc)"),
    h("h3", {}, h("span", { className: "s-" + t.status }, word(t.status)), " ", t.name),
    ...details(t.file, t, t.detail).flat(4).filter(Boolean));
  $("detail").hidden = false;
  $("detail").focus();
}
function hide() {
  if ($("detail").hidden) return;
  $("detail").hidden = true;
  if (opener) opener.focus();
  opener = null;
}
// What Tab reaches in what is open over the page; beyond its ends it goes round.
function turn(e) {
  const stops = [...$("detail").querySelectorAll("button, a[href], summary, [tabindex='0']")].filter((s) => s.checkVisibility());
  const first = stops[0], last = stops[stops.length - 1], at = document.activeElement;
  if (e.shiftKey ? at === first || at === $("detail") : at === last) { e.preventDefault(); (e.shiftKey ? last : first).focus(); }
}
addEventListener("keydown", (e) => {
  if (e.key === "Escape") hide();
  if (e.key === "Tab" && !$("detail").hidden) turn(e);
  if (e.key === "/" && $("detail").hidden && !/INPUT/.test(document.activeElement.tagName)) { e.preventDefault(); $("filter").focus(); }
});

// --- failures ---------------------------------------------------------------

function failures() {
  const all = [];
  for (const f of files) {
    if (f.error || fileFailed(f) && !f.tests.some((t) => isFailed(t.status))) all.push([f, null]);
    for (const t of f.tests) if (isFailed(t.status) || t.status === "flaky") all.push([f, t]);
  }
  if (!all.length) { $("failures").hidden = true; return; }
  const place = body("failures");
  const some = 100;
  const add = (from, to) => {
    for (const [f, t] of all.slice(from, to)) {
      const first = (t ? t.status === "flaky" ? "flaky: passed at attempt " + ((t.detail.tries || []).length + 1) : t.text || "" : f.error || word(f.status)).split("\n")[0];
      const d = h("details", { className: "failure" },
        h("summary", {}, h("b", { className: "s-" + (t ? t.status : f.status) }, t ? t.name : word(f.status)), " ", h("span", { className: "dim" }, fileName(f)), h("div", {}, first)));
      d.addEventListener("toggle", () => {
        if (d.open && d.childElementCount === 1) d.append(h("div", {}, ...(t ? details(f, t, t.detail) : [...block("Why", f.error), ...details(f, null, f.scope)]).flat(4).filter(Boolean)));
      });
      place.append(d);
    }
    if (all[from] && from === 0) place.firstChild.open = true;
  };
  add(0, some);
  if (all.length > some) {
    const more = h("button", { onclick: () => { more.remove(); add(some, all.length); } }, "Show the other " + (all.length - some));
    place.append(more);
  }
}

// --- the list of tests, of which only what is seen exists as elements --------

function list() {
  const rowHeight = 28;
  const chosen = new Set(Object.keys(counts));
  const input = h("input", { id: "filter", type: "search", placeholder: "Filter by name, path or tag  ( / )", "aria-label": "Filter tests" });
  const buttons = Object.keys(counts).filter((s) => counts[s]).map((s) => h("button", { "aria-pressed": "true", onclick: (e) => {
    const on = !chosen.delete(s);
    if (on) chosen.add(s);
    e.currentTarget.setAttribute("aria-pressed", on);
    select();
  } }, h("span", { className: "s-" + s }, s + " " + counts[s])));
  const note = h("span", { className: "dim", role: "status" });
  const box = h("div", { className: "list", tabindex: 0, role: "listbox", "aria-label": "Tests" });
  const space = h("div", {});
  box.append(space);
  body("tests").append(h("div", { className: "bar" }, input, buttons, note), box);
  let rows = [], at = -1;
  function select() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows = [];
    let n = 0;
    for (const f of files) {
      const found = f.tests.filter((t) => {
        if (!chosen.has(t.status)) return false;
        if (!words.length) return true;
        if (t.search === undefined) t.search = (t.name + " " + f.path + " " + (t.tags || []).join(" ")).toLowerCase();
        return words.every((w) => t.search.includes(w));
      });
      if (!found.length) continue;
      rows.push(f, ...found);
      n += found.length;
    }
    note.textContent = n === tests.length ? "" : n + " of " + tests.length;
    at = -1;
    space.style.height = rows.length * rowHeight + "px";
    box.scrollTop = 0;
    draw();
  }
  function draw() {
    const from = Math.max(0, Math.floor(box.scrollTop / rowHeight) - 5);
    const to = Math.min(rows.length, from + Math.ceil(box.clientHeight / rowHeight) + 10);
    const seen = [];
    for (let i = from; i < to; i++) {
      const r = rows[i], isFile = !r.file;
      const row = h("div", { className: "row" + (isFile ? " file" : ""), role: "option", id: "row" + i, "aria-selected": i === at ? "true" : "false", onclick: isFile ? undefined : () => { at = i; draw(); show(r); } },
        h("span", { className: "st s-" + r.status }, word(r.status)),
        h("span", { className: "name", title: isFile ? fileName(r) : r.name }, isFile ? fileName(r) : r.name),
        h("span", { className: "ms" }, isFile ? (r.start < 0 ? "" : span(r.end - r.start)) : span(r.ms)));
      row.style.top = i * rowHeight + "px";
      seen.push(row);
    }
    box.replaceChildren(space, ...seen);
    if (at >= 0) box.setAttribute("aria-activedescendant", "row" + at);
    else box.removeAttribute("aria-activedescendant");
  }
  function move(step) {
    let next = at < 0 ? (step > 0 ? -1 : rows.length) : at;
    do { next += Math.sign(step); } while (rows[next] && !rows[next].file);
    for (let n = Math.abs(step) - 1; n > 0 && rows[next + Math.sign(step)]; n--) next += Math.sign(step);
    while (rows[next] && !rows[next].file) next += Math.sign(step);
    if (!rows[next]) return;
    at = next;
    const top = at * rowHeight;
    if (top < box.scrollTop) box.scrollTop = top - rowHeight;
    if (top + rowHeight > box.scrollTop + box.clientHeight) box.scrollTop = top + rowHeight - box.clientHeight;
    draw();
  }
  box.addEventListener("scroll", () => requestAnimationFrame(draw));
  box.addEventListener("keydown", (e) => {
    const page = Math.max(1, Math.floor(box.clientHeight / rowHeight) - 1);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page }[e.key];
    if (step) { e.preventDefault(); move(step); }
    if (e.key === "Home" || e.key === "End") { e.preventDefault(); at = -1; move(e.key === "Home" ? 1 : -1); }
    if ((e.key === "Enter" || e.key === " ") && rows[at]) { e.preventDefault(); show(rows[at]); }
  });
  input.addEventListener("input", select);
  addEventListener("resize", draw);
  select();
}

// --- slowest, specification, run ---------------------------------------------

function table(columns, rows) {
  return h("div", { className: "wide" }, h("table", {},
    h("thead", {}, h("tr", {}, columns.map((c) => h("th", { className: c.num && "num" }, c.name)))),
    h("tbody", {}, rows)));
}

const testLink = (t) => h("a", { href: "#tests", onclick: (e) => { e.preventDefault(); opener = e.currentTarget; show(t); } }, t.name);

function slowest() {
  const byTime = tests.slice().sort((a, b) => b.ms - a.ms).slice(0, 15).filter((t) => t.ms > 0);
  const byFile = files.filter((f) => f.start >= 0).sort((a, b) => b.end - b.start - (a.end - a.start)).slice(0, 15);
  if (!byFile.length) { $("slow").hidden = true; return; }
  body("slow").append(
    table([{ name: "test" }, { name: "file" }, { name: "time", num: true }], byTime.map((t) => h("tr", {}, h("td", {}, testLink(t)), h("td", { className: "dim" }, fileName(t.file)), h("td", { className: "num" }, span(t.ms))))),
    h("p", {}),
    table([{ name: "file" }, { name: "waited", num: true }, { name: "time", num: true }], byFile.map((f) => h("tr", {}, h("td", {}, fileName(f)), h("td", { className: "num" }, span(Math.max(0, f.start - f.found))), h("td", { className: "num" }, span(f.end - f.start))))));
}

function specification() {
  const by = new Map();
  for (const t of tests) for (const s of t.spec || []) {
    if (!by.has(s)) by.set(s, []);
    by.get(s).push(t);
  }
  if (!by.size) { $("spec").hidden = true; return; }
  const without = tests.filter((t) => !(t.spec || []).length).length;
  const covered = (list) => list.some((t) => t.status === "passed" || t.status === "flaky");
  const rows = [...by].sort((a, b) => covered(a[1]) - covered(b[1]) || (a[0] < b[0] ? -1 : 1));
  body("spec").append(
    h("p", { className: "dim" }, rows.filter((r) => covered(r[1])).length + " of " + rows.length + " have a test that passed. " + without + " tests name no part of it."),
    table([{ name: "part" }, { name: "tests" }], rows.map(([s, list]) => h("tr", {}, h("td", { className: covered(list) ? "" : "s-failed" }, s),
      h("td", {}, list.slice(0, 50).map((t, i) => [i ? ", " : "", testLink(t), h("span", { className: "s-" + t.status }, " " + word(t.status))]))))));
}

function run() {
  const rows = (model.runs || []).map((r) => h("tr", {}, h("td", {}, r.shard || "", r.iteration > 1 || (model.runs || []).length > 1 ? " " + r.iteration : ""),
    h("td", {}, r.version), h("td", {}, r.project), h("td", {}, r.accelerator || "no guests"), h("td", {}, r.seed + (r.repeat ? " (" + r.repeat + ")" : "")),
    h("td", { className: "num" }, r.exit < 0 ? "did not end" : span(r.ms)), h("td", { className: "num" }, r.exit < 0 ? "" : String(r.exit)),
    h("td", { className: "num" }, String(r.notStarted || 0))));
  body("run").append(table([{ name: "part" }, { name: "version" }, { name: "project" }, { name: "accelerator" }, { name: "seed" }, { name: "time", num: true }, { name: "exit code", num: true }, { name: "files not started", num: true }], rows));
  if ((model.builds || []).length) body("run").append(h("h4", {}, "Builds and downloads"),
    table([{ name: "what" }, { name: "name" }, { name: "time", num: true }, { name: "" }], model.builds.map((b) => h("tr", {}, h("td", {}, b.kind), h("td", {}, b.name), h("td", { className: "num" }, span(b.ms)), h("td", { className: "s-failed" }, b.error || "")))));
}

// --- the timeline -----------------------------------------------------------

function timeline() {
  const started = files.filter((f) => f.start >= 0).sort((a, b) => a.start - b.start);
  if (!started.length) { $("timeline").hidden = true; return; }
  const low = Math.min(0, ...started.map((f) => f.found)), high = Math.max(model.end, 1);
  let from = low, to = high, selected = 0;
  const laneHeight = 34, top = 62;
  const canvas = h("canvas", {});
  const box = h("div", { className: "lanes", tabindex: 0, role: "application", "aria-label": "Timeline. Left and right move, plus and minus zoom, 0 shows all, up and down choose a file, Enter shows its longest test." }, canvas, h("div", {}));
  box.style.height = Math.min(416, top + started.length * laneHeight + 8) + "px";
  const zoom = (factor, centre) => {
    const c = centre === undefined ? (from + to) / 2 : centre;
    const width = Math.min(high - low, Math.max(1, (to - from) * factor));
    from = Math.max(low, Math.min(high - width, c - (c - from) / (to - from) * width));
    to = from + width;
    redraw();
  };
  const pan = (by) => { const w = to - from; from = Math.max(low, Math.min(high - w, from + by)); to = from + w; redraw(); };
  const fit = () => { from = low; to = high; redraw(); };
  body("timeline").append(h("div", { className: "bar" },
    h("button", { onclick: () => zoom(0.5), title: "Zoom in (+)" }, "+"), h("button", { onclick: () => zoom(2), title: "Zoom out (-)" }, "−"), h("button", { onclick: fit, title: "Show all (0)" }, "All"),
    h("span", { className: "dim" }, "Ctrl and wheel zoom, drag moves; a click shows a test.")), box,
    h("div", { className: "legend" }, [["passed", "test passed"], ["failed", "failed"], ["flaky", "flaky"], ["skipped", "waiting for the pool"], ["op", "operation"], ["guest", "guest"], ["network", "network"], ["disk", "disk"], ["clock", "clock"]]
      .map(([c, text]) => { const i = h("i"); i.style.background = "var(--" + c + ")"; return h("span", {}, i, text); })));
  
  const context = canvas.getContext("2d");
  let colors = {};
  const readColors = () => { const s = getComputedStyle(document.documentElement); for (const n of ["bg", "fg", "dim", "line", "soft", "accent", "passed", "failed", "flaky", "skipped", "unfinished", "op", "guest", "network", "disk", "clock"]) colors[n] = s.getPropertyValue("--" + n).trim(); };
  readColors();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColors(); redraw(); });
  const gutter = () => Math.min(260, canvas.clientWidth * 0.3);
  const x = (t) => gutter() + (t - from) / (to - from) * (canvas.clientWidth - gutter() - 8);
  const timeAt = (px) => from + (px - gutter()) / (canvas.clientWidth - gutter() - 8) * (to - from);
  let pending = false;
  function redraw() { if (!pending) { pending = true; requestAnimationFrame(() => { pending = false; draw(); }); } }
  // bars draws intervals, leaving out those that would fall on the last pixel drawn.
  function bars(list, y, height, get) {
    let lastX = -1, lastColor = "";
    for (const item of list) {
      const [a, b, color] = get(item);
      if (b < from || a > to) continue;
      const x0 = Math.max(gutter(), x(a)), w = Math.max(1.5, Math.min(canvas.clientWidth, x(b)) - x0);
      if (w < 2 && Math.floor(x0) === lastX && color === lastColor) continue;
      lastX = Math.floor(x0); lastColor = color;
      context.fillStyle = color;
      context.fillRect(x0, y, w > 3 ? w - 1 : w, height);
    }
  }
  function draw() {
    const width = box.clientWidth, height = box.clientHeight, ratio = devicePixelRatio || 1;
    canvas.style.height = height + "px";
    canvas.width = width * ratio; canvas.height = height * ratio;
    box.lastChild.style.height = Math.max(0, top + started.length * laneHeight + 6 - height) + "px";
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = colors.bg; context.fillRect(0, 0, width, height);
    const first = Math.max(0, Math.floor(box.scrollTop / laneHeight));
    context.font = "12px system-ui, sans-serif"; context.textBaseline = "middle";
    for (let i = first; i < started.length; i++) {
      const y = top + i * laneHeight - box.scrollTop, f = started[i];
      if (y > height) break;
      if (i === selected) { context.fillStyle = colors.soft; context.fillRect(0, y, width, laneHeight); }
      if (f.found < f.start) bars([f], y + 12, 4, () => [f.found, f.start, colors.skipped]);
      bars([f], y + 4, 14, () => [f.start, f.end, colors.soft]);
      bars(f.tests, y + 4, 14, (t) => [t.start, t.start + t.ms, colors[t.status] || colors.dim]);
      for (const t of f.tests) if (t.detail && t.detail.ops) bars(t.detail.ops, y + 19, 4, (o) => [o.start, o.start + o.ms, o.failed ? colors.failed : colors.op]);
      if (f.scope && f.scope.ops) bars(f.scope.ops, y + 19, 4, (o) => [o.start, o.start + o.ms, o.failed ? colors.failed : colors.op]);
      bars(f.guests || [], y + 25, 3, (g) => [g.up >= 0 ? g.up : g.begin, g.down < 0 ? f.end : g.down, colors.guest]);
      for (const m of f.marks || []) {
        const mx = x(m.at);
        if (mx < gutter() || mx > width) continue;
        context.fillStyle = { network: colors.network, disk: colors.disk, fault: colors.failed, kernel: colors.failed, clock: colors.clock }[m.kind] || colors.dim;
        context.beginPath(); context.moveTo(mx, y + 24); context.lineTo(mx - 4, y + 31); context.lineTo(mx + 4, y + 31); context.fill();
      }
      context.fillStyle = colors.bg; context.fillRect(0, y, gutter() - 2, laneHeight);
      if (i === selected) { context.fillStyle = colors.soft; context.fillRect(0, y, gutter() - 2, laneHeight); }
      context.fillStyle = fileFailed(f) ? colors.failed : colors.fg;
      let name = fileName(f);
      while (name.length > 4 && context.measureText(name).width > gutter() - 14) name = "…" + name.slice(name.startsWith("…") ? 2 : 1);
      context.fillText(name, 6, y + laneHeight / 2);
    }
    context.fillStyle = colors.bg; context.fillRect(0, 0, width, top);
    context.strokeStyle = colors.line; context.fillStyle = colors.dim;
    const unit = niceStep((to - from) / Math.max(2, (width - gutter()) / 110));
    for (let t = Math.ceil(from / unit) * unit; t <= to; t += unit) {
      const px = Math.round(x(t)) + 0.5;
      context.beginPath(); context.moveTo(px, 14); context.lineTo(px, height); context.globalAlpha = 0.5; context.stroke(); context.globalAlpha = 1;
      const label = t === 0 ? "0" : span(t);
      if (px + 3 + context.measureText(label).width < width) context.fillText(label, px + 3, 8);
    }
    pool(width);
    context.beginPath(); context.moveTo(0, top - 0.5); context.lineTo(width, top - 0.5); context.stroke();
  }
  function pool(width) {
    const points = model.pool || [];
    context.fillStyle = colors.dim;
    context.fillText("pool: memory, CPUs", 6, 36);
    for (const [which, color] of [[1, colors.guest], [2, colors.flaky]]) {
      const most = Math.max(model.poolSize[which - 1], ...points.map((p) => p[which]), 1e-9);
      context.strokeStyle = color; context.beginPath();
      let begun = false;
      for (const p of points) {
        if (p[0] < from - (to - from) || p[0] > to + (to - from)) continue;
        const px = Math.max(gutter(), x(p[0])), py = 56 - p[which] / most * 36;
        if (begun) context.lineTo(px, py); else context.moveTo(px, py);
        begun = true;
      }
      context.stroke();
    }
    context.strokeStyle = colors.line;
  }
  function niceStep(ms) { const base = 10 ** Math.floor(Math.log10(Math.max(ms, 0.1))); return [1, 2, 5, 10].map((f) => f * base).find((v) => v >= ms); }
  function hit(e) {
    const r = canvas.getBoundingClientRect(), px = e.clientX - r.left, py = e.clientY - r.top;
    if (py < top) return null;
    const i = Math.floor((py - top + box.scrollTop) / laneHeight), f = started[i];
    if (!f) return null;
    const t = timeAt(px), near = (to - from) / canvas.clientWidth * 4, y = py - (top + i * laneHeight - box.scrollTop);
    const inside = (a, b) => t >= a - near && t <= b + near;
    const mark = y > 22 && (f.marks || []).find((m) => Math.abs(m.at - t) <= near * 1.5);
    const test = f.tests.find((x) => t >= x.start && t <= x.start + x.ms) || f.tests.find((x) => inside(x.start, x.start + x.ms));
    const all = test && test.detail && test.detail.ops || f.scope && f.scope.ops || [];
    const op = y >= 17 && y < 24 && all.find((o) => inside(o.start, o.start + o.ms));
    const guest = y >= 24 && (f.guests || []).find((g) => inside(g.up >= 0 ? g.up : g.begin, g.down < 0 ? f.end : g.down));
    return { i, f, test, text: px < gutter() ? fileName(f) : mark ? mark.kind + (mark.vm ? " " + mark.vm : "") + ": " + mark.text : op ? (op.vm ? op.vm + ": " : "") + op.call + "  " + span(op.ms) + (op.result ? "\n" + op.result : "")
      : guest ? "guest " + guest.vm + " (" + [guest.profile, guest.source].filter(Boolean).join(", ") + ")" + (guest.reason ? "\n" + guest.reason : "") : test ? test.name + "  " + span(test.ms) + "\n" + word(test.status) : t < f.start && t >= f.found ? "waiting for the pool" + ((f.waits || []).length ? ": " + f.waits[f.waits.length - 1].reason : "") : fileName(f) };
  }
  let drag = null;
  canvas.addEventListener("pointerdown", (e) => { drag = { x: e.clientX, from, moved: false }; canvas.setPointerCapture(e.pointerId); });
  canvas.addEventListener("pointermove", (e) => {
    if (drag) {
      const by = (drag.x - e.clientX) / (canvas.clientWidth - gutter() - 8) * (to - from);
      if (Math.abs(drag.x - e.clientX) > 4) drag.moved = true;
      if (drag.moved) { const w = to - from; from = Math.max(low, Math.min(high - w, drag.from + by)); to = from + w; redraw(); }
      return;
    }
    const found = hit(e), tip = $("tip");
    tip.hidden = !found;
    if (!found) return;
    tip.textContent = found.text;
    tip.style.left = Math.min(e.clientX + 12, innerWidth - tip.offsetWidth - 8) + "px";
    tip.style.top = Math.min(e.clientY + 14, innerHeight - tip.offsetHeight - 8) + "px";
  });
  canvas.addEventListener("pointerup", (e) => {
    const moved = drag && drag.moved;
    drag = null;
    if (moved) return;
    const found = hit(e);
    if (found) { selected = found.i; redraw(); if (found.test) { opener = box; show(found.test); } }
  });
  canvas.addEventListener("pointerleave", () => { $("tip").hidden = true; });
  box.addEventListener("wheel", (e) => {
    if (e.ctrlKey) { e.preventDefault(); zoom(e.deltaY > 0 ? 1.25 : 0.8, timeAt(e.clientX - canvas.getBoundingClientRect().left)); } else if (e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) { e.preventDefault(); pan((e.deltaX || e.deltaY) / canvas.clientWidth * (to - from)); }
  }, { passive: false });
  box.addEventListener("scroll", redraw);
  box.addEventListener("keydown", (e) => {
    const w = to - from;
    const act = { ArrowLeft: () => pan(-w / 8), ArrowRight: () => pan(w / 8), "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), 0: fit,
      ArrowDown: () => choose(1), ArrowUp: () => choose(-1), Enter: () => { const t = started[selected].tests.slice().sort((a, b) => isFailed(b.status) - isFailed(a.status) || b.ms - a.ms)[0]; if (t) { opener = box; show(t); } } }[e.key];
    if (act) { e.preventDefault(); act(); }
  });
  function choose(step) {
    selected = Math.max(0, Math.min(started.length - 1, selected + step));
    const y = selected * laneHeight;
    const f = started[selected], w = to - from;
    if (f.end < from || f.start > to) { from = Math.max(low, Math.min(high - w, f.start - w / 8)); to = from + w; }
    if (y < box.scrollTop) box.scrollTop = y;
    if (y + laneHeight + top > box.scrollTop + box.clientHeight) box.scrollTop = y + laneHeight + top - box.clientHeight;
    redraw();
  }
  new ResizeObserver(redraw).observe(box); // also when the page gets a scroll bar
  draw();
}

failures();
if ($("failures").hidden) { const skip = document.querySelector(".skip"); skip.href = "#tests"; skip.textContent = "Skip to the tests"; }
timeline();
list();
slowest();
specification();
run();
head();
