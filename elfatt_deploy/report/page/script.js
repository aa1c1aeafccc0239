"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const names = ["board", "model", "precision", "mode"];
  const chosen = {};
  const [X, Y, LOW, HIGH, BOX1, BOX3, TEXT, WHERE, DOUBT, FACETS] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
  const MOST_ROWS = 100, MOST_BARS = 40, COLOURS = 10;
  const tip = document.getElementById("tip");

  // ---- filters: a set of chosen values for each facet; no set means all
  function passes(place) {
    const facets = data.facets[place];
    return names.every((name, i) => !chosen[name] || !facets[i] || chosen[name].has(facets[i]));
  }

  function readFilters() {
    for (const menu of document.querySelectorAll("[data-filter]")) {
      const boxes = [...menu.querySelectorAll("input")];
      const on = boxes.filter((box) => box.checked).map((box) => box.value);
      const all = on.length === boxes.length;
      if (all) delete chosen[menu.dataset.filter];
      else chosen[menu.dataset.filter] = new Set(on);
      const text = all ? "all" : on.length === 1 ? on[0] : `${on.length} of ${boxes.length}`;
      menu.querySelector("b").textContent = text;
    }
    update();
  }

  function wireFilters() {
    for (const menu of document.querySelectorAll("[data-filter]")) {
      menu.addEventListener("change", readFilters);
      for (const [name, value] of [["data-all", true], ["data-none", false]]) {
        menu.querySelector(`[${name}]`).addEventListener("click", () => {
          for (const box of menu.querySelectorAll("input")) box.checked = value;
          readFilters();
        });
      }
      menu.addEventListener("toggle", () => {
        if (!menu.open) return;
        for (const other of document.querySelectorAll("[data-filter]")) if (other !== menu) other.open = false;
      });
    }
    document.addEventListener("click", (event) => {
      if (event.target.closest("[data-filter]")) return;
      for (const menu of document.querySelectorAll("[data-filter]")) menu.open = false;
    });
    const find = document.getElementById("find");
    if (find) find.addEventListener("input", updateTables);
    const reset = document.getElementById("reset");
    if (reset) reset.addEventListener("click", () => {
      for (const box of document.querySelectorAll("[data-filter] input")) box.checked = true;
      if (find) find.value = "";
      readFilters();
    });
  }

  // ---- tables
  const tables = [...document.querySelectorAll("table[data-name]")].map((table) => ({
    table, body: table.tBodies[0], rows: [...table.tBodies[0].rows], whole: false,
  }));

  function updateTables() {
    const field = document.getElementById("find");
    const wanted = field ? field.value.trim().toLowerCase() : "";
    let passed = 0, every = 0;
    for (const one of tables) {
      let shown = 0, here = 0;
      for (const row of one.rows) {
        const on = passes(+row.dataset.f) && (!wanted || row.textContent.toLowerCase().includes(wanted));
        here += on;
        const visible = on && (one.whole || shown < MOST_ROWS);
        shown += visible;
        row.classList.toggle("off", !visible);
      }
      passed += here;
      every += one.rows.length;
      sayMore(one, shown, here);
    }
    const said = document.getElementById("said");
    if (said) said.textContent = passed === every ? "" : `${passed} of ${every} rows`;
  }

  function sayMore(one, shown, here) {
    const more = one.table.closest(".table").querySelector(".more");
    more.hidden = shown === here && here === one.rows.length;
    more.replaceChildren(`${shown} of ${one.rows.length} rows shown`);
    if (shown === here) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = `show all ${here}`;
    button.addEventListener("click", () => { one.whole = true; updateTables(); });
    more.append(", ", button);
  }

  function sortBy(one, index, header) {
    const down = header.getAttribute("aria-sort") === "ascending";
    for (const other of one.table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const keyed = one.rows.map((row, place) => {
      const text = row.cells[index].textContent;
      return { row, place, text, number: parseFloat(text), gap: text === "-" };
    });
    const numeric = keyed.every((k) => k.gap || !Number.isNaN(k.number));
    keyed.sort((a, b) => {
      if (a.gap !== b.gap) return a.gap - b.gap; // what is absent stays last
      const order = numeric ? a.number - b.number : a.text.localeCompare(b.text, "en", { numeric: true });
      return (down ? -order : order) || a.place - b.place;
    });
    one.rows = keyed.map((k) => k.row);
    one.body.append(...one.rows);
    updateTables();
  }

  function wireTables() {
    for (const one of tables) {
      [...one.table.tHead.rows[0].cells].forEach((header, index) => {
        header.querySelector("button").addEventListener("click", () => sortBy(one, index, header));
      });
    }
  }

  // ---- charts
  function el(parent, name, attributes, text) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  }

  const colour = (number) => (number < 0 ? "var(--soft)" : `var(--s${number % COLOURS})`);
  const plain = (value) => String(+value.toPrecision(4));

  function steps(low, high, most) {
    const raw = (high - low) / most;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((k) => k * power).find((s) => s >= raw * 0.999);
    const found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high * (1 + 1e-9); i++) found.push(i * step);
    return found;
  }

  function logSteps(low, high, values) {
    if (values.length <= 6) return values;
    const found = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++)
      for (const k of [1, 2, 5]) found.push(k * 10 ** e);
    return found.filter((v) => v >= low && v <= high);
  }

  // returns a function from values to pixels, with its ticks
  function scale(axis, values, from, to, most, keepLow) {
    if (axis.names.length && !keepLow) {
      const width = (to - from) / axis.names.length;
      const place = (v) => from + (v + 0.5) * width;
      return { place, ticks: axis.names.map((name, i) => [i, name]) };
    }
    let low = Math.min(...values), high = Math.max(...values);
    if (axis.log) {
      const many = [...new Set(values)].sort((a, b) => a - b);
      low /= 1.1; high *= 1.1;
      const unit = (to - from) / Math.log(high / low);
      const place = (v) => from + Math.log(v / low) * unit;
      return { place, ticks: logSteps(low, high, many).map((v) => [v, plain(v)]) };
    }
    if (axis.zero) low = Math.min(0, low);
    const room = (high - low || Math.abs(high) || 1) * 0.06;
    if (!axis.zero) low -= room;
    high += room;
    const place = (v) => from + ((v - low) / (high - low)) * (to - from);
    return { place, ticks: steps(low, high, most).map((v) => [v, plain(v)]) };
  }

  function shownSeries(panel) {
    return panel.series
      .map((series) => ({ ...series, points: series.points.filter((p) => passes(p[FACETS])) }))
      .filter((series) => series.points.length);
  }

  function water(svg, mark, width, height) {
    if (!mark) return;
    const size = Math.min(42, width / mark.length);
    el(svg, "text", {
      class: "water", x: width / 2, y: height / 2, "text-anchor": "middle", "aria-hidden": "true",
      style: `font-size:${size}px`, transform: `rotate(-18 ${width / 2} ${height / 2})`,
    }, mark);
  }

  function dropCrowded(ticks, place, least) {
    let last = -Infinity;
    return ticks.filter(([v]) => {
      const keep = Math.abs(place(v) - last) >= least;
      if (keep) last = place(v);
      return keep;
    });
  }

  function drawXY(host, chart, panel) {
    const series = shownSeries(panel);
    const width = host.clientWidth || 480, height = Math.round(Math.max(230, Math.min(330, width * 0.62)));
    const box = { left: 56, right: width - 12, top: 10, bottom: height - 40 };
    const svg = el(host, "svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": panel.title || chart.name });
    if (!series.length) return el(svg, "text", { x: width / 2, y: height / 2, "text-anchor": "middle", class: "label" }, "nothing passes the filter");
    const points = series.flatMap((s) => s.points);
    const ys = points.flatMap((p) => [p[Y], p[LOW], p[HIGH]]).filter((v) => v !== null);
    const across = scale(panel.x, points.map((p) => p[X]), box.left + 8, box.right - 8, width / 75);
    const up = scale(panel.y, ys, box.bottom, box.top, 5);
    for (const [v, text] of up.ticks) {
      el(svg, "line", { class: "grid", x1: box.left, x2: box.right, y1: up.place(v), y2: up.place(v) });
      el(svg, "text", { class: "label", x: box.left - 6, y: up.place(v) + 4, "text-anchor": "end" }, text);
    }
    const least = panel.x.names.length ? 7 * Math.max(...panel.x.names.map((n) => n.length)) : 34;
    for (const [v, text] of dropCrowded(across.ticks, across.place, least)) {
      el(svg, "line", { class: "axis", x1: across.place(v), x2: across.place(v), y1: box.bottom, y2: box.bottom + 4 });
      el(svg, "text", { class: "label", x: across.place(v), y: box.bottom + 17, "text-anchor": "middle" }, text);
    }
    el(svg, "line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom });
    el(svg, "text", { class: "label", x: (box.left + box.right) / 2, y: height - 4, "text-anchor": "middle" }, panel.x.label);
    const middle = (box.top + box.bottom) / 2;
    el(svg, "text", { class: "label", x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` }, panel.y.label);
    const hits = [];
    for (const one of series) drawLine(svg, one, across.place, up.place, hits);
    water(svg, chart.mark, width, height);
    wireTip(svg, hits);
    return svg;
  }

  function drawLine(svg, series, across, up, hits) {
    const ink = colour(series.colour), paper = series.origin === "paper", guide = series.origin === "guide";
    const spots = series.points.map((p) => [across(p[X]), up(p[Y]), p]);
    if (series.joined || guide) {
      el(svg, "polyline", {
        points: spots.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "), fill: "none", stroke: ink,
        "stroke-width": paper ? 1 : 1.7, "stroke-dasharray": paper ? "4 4" : guide ? "6 3" : "none", opacity: paper ? 0.75 : 1,
      });
    }
    if (guide) return;
    const few = spots.length <= 80;
    for (const [x, y, p] of spots) {
      if (p[LOW] !== null) el(svg, "line", { x1: x, x2: x, y1: up(p[LOW]), y2: up(p[HIGH]), stroke: ink, "stroke-width": 1.4 });
      if (few) el(svg, "circle", { cx: x, cy: y, r: 3.6, fill: paper ? "var(--paper)" : ink, stroke: ink, "stroke-width": 1.4 });
      if (p[DOUBT]) el(svg, "circle", { class: "ring", cx: x, cy: y, r: 6.5 });
      hits.push([x, y, p]);
    }
  }

  function drawRows(host, chart, panel) {
    const series = shownSeries(panel);
    const wanted = [...new Set(series.flatMap((s) => s.points.map((p) => p[Y])))].sort((a, b) => a - b);
    const rows = wanted.slice(0, MOST_BARS), at = new Map(rows.map((row, i) => [row, i]));
    const width = host.clientWidth || 480;
    // where names and bars do not fit side by side, a name stands above its bar
    const longest = Math.max(0, ...rows.map((row) => panel.y.names[row].length));
    const above = longest * 6.6 > width * 0.42, step = above ? 34 : 22, height = rows.length * step + 48;
    const svg = el(host, "svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": chart.name });
    if (!rows.length) return el(svg, "text", { x: width / 2, y: 20, "text-anchor": "middle", class: "label" }, "nothing passes the filter");
    const left = above ? 8 : longest * 6.6 + 10;
    const kept = series.flatMap((s) => s.points.filter((p) => at.has(p[Y])).map((p) => [s, p]));
    const values = kept.flatMap(([, p]) => [p[X], p[LOW], p[HIGH]]).filter((v) => v !== null);
    if (panel.line !== null) values.push(panel.line);
    const across = scale(panel.x, values, left + 6, width - 14, (width - left) / 70, true);
    const bottom = rows.length * step + 4;
    for (const [v, text] of across.ticks) {
      el(svg, "line", { class: "grid", x1: across.place(v), x2: across.place(v), y1: 2, y2: bottom });
      el(svg, "text", { class: "label", x: across.place(v), y: bottom + 15, "text-anchor": "middle" }, text);
    }
    if (panel.line !== null) el(svg, "line", { class: "axis", x1: across.place(panel.line), x2: across.place(panel.line), y1: 2, y2: bottom });
    el(svg, "text", { class: "label", x: (left + width) / 2, y: height - 6, "text-anchor": "middle" }, panel.x.label);
    rows.forEach((row, i) => {
      const place = above ? { x: 0, y: i * step + 13 } : { x: left, y: i * step + 16, "text-anchor": "end" };
      el(svg, "text", place, panel.y.names[row]);
    });
    const hits = [];
    for (const [one, p] of kept) {
      const y = at.get(p[Y]) * step + (above ? 24 : 12), ink = colour(one.colour), place = across.place;
      if (p[LOW] !== null) el(svg, "line", { x1: place(p[LOW]), x2: place(p[HIGH]), y1: y, y2: y, stroke: ink, "stroke-width": 1.6 });
      if (p[BOX1] !== null) el(svg, "rect", { x: place(p[BOX1]), y: y - 6, width: Math.max(1, place(p[BOX3]) - place(p[BOX1])), height: 12, fill: ink, opacity: 0.4 });
      el(svg, "circle", { cx: place(p[X]), cy: y, r: 3.8, fill: ink });
      if (p[DOUBT]) el(svg, "circle", { class: "ring", cx: place(p[X]), cy: y, r: 7 });
      hits.push([place(p[X]), y, p]);
    }
    water(svg, chart.mark, width, height);
    wireTip(svg, hits, true);
    if (rows.length < wanted.length) {
      const said = document.createElement("p");
      said.textContent = `${rows.length} of ${wanted.length} rows: filter to see others`;
      host.append(said);
    }
    return svg;
  }

  function wireTip(svg, hits, byRow) {
    let ring = null;
    const leave = () => { if (ring) ring.remove(); ring = null; tip.hidden = true; };
    const show = (event) => {
      const frame = svg.getBoundingClientRect(), unit = svg.viewBox.baseVal.width / frame.width;
      const x = (event.clientX - frame.left) * unit, y = (event.clientY - frame.top) * unit;
      let best = null, least = byRow ? 11 : 26;
      for (const hit of hits) {
        const far = byRow ? Math.abs(hit[1] - y) : Math.hypot(hit[0] - x, hit[1] - y);
        if (far < least) { least = far; best = hit; }
      }
      leave();
      if (!best) return;
      ring = el(svg, "circle", { class: "hit", cx: best[0], cy: best[1], r: 7 });
      tip.textContent = [best[2][TEXT], data.texts[best[2][WHERE]]].filter(Boolean).join("\n");
      tip.hidden = false;
      const size = tip.getBoundingClientRect();
      tip.style.left = `${Math.max(6, Math.min(event.clientX + 14, innerWidth - size.width - 6))}px`;
      tip.style.top = `${event.clientY + 18 + size.height > innerHeight ? event.clientY - size.height - 12 : event.clientY + 18}px`;
    };
    svg.addEventListener("pointermove", show);
    svg.addEventListener("pointerdown", show);
    svg.addEventListener("pointerleave", leave);
  }

  function keys(host, panels) {
    const found = new Map();
    let ring = false;
    for (const panel of panels) for (const series of shownSeries(panel)) {
      ring = ring || series.points.some((p) => p[DOUBT]);
      if (series.origin === "paper") found.set("the paper", ["paper", -1]);
      else found.set(series.name, ["", series.colour]);
    }
    // a network of the paper that has no record of ours
    for (const panel of panels) for (const series of shownSeries(panel)) {
      const name = series.name.replace(/, the paper$/, "");
      if (series.origin === "paper" && !found.has(name)) found.set(series.name, ["hollow", series.colour]);
    }
    if (ring) found.set("doubtful: see the marks", ["ring", -1]);
    const list = document.createElement("ul");
    list.className = "keys";
    for (const [name, [kind, number]] of found) {
      const item = document.createElement("li"), dot = document.createElement("i");
      dot.className = kind;
      dot.style.background = dot.style.borderColor = colour(number);
      item.append(dot, name);
      list.append(item);
    }
    host.append(list);
  }

  function drawCharts() {
    for (const host of document.querySelectorAll("[data-chart]")) {
      const chart = data.charts[+host.dataset.chart];
      host.replaceChildren();
      host.classList.toggle("one", chart.panels.length === 1);
      if (chart.oneKey) keys(host, chart.panels);
      for (const panel of chart.panels) {
        const place = document.createElement("div");
        place.className = "panel";
        if (panel.title) {
          const title = document.createElement("h4");
          title.textContent = panel.title;
          place.append(title);
        }
        host.append(place);
        if (!chart.oneKey) keys(place, [panel]);
        (panel.rows ? drawRows : drawXY)(place, chart, panel);
      }
    }
  }

  function update() { updateTables(); drawCharts(); }

  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; drawCharts(); } });
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details.notes")) details.open = true;
    drawCharts();
  });
  addEventListener("afterprint", drawCharts);
  wireFilters();
  wireTables();
  update();
  document.documentElement.dataset.ready = "yes";
})();
