// Draws the curves and the gallery of a report from the JSON in the page. Text is only ever set as text.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const seriesColour = (number) => colour(`--series-${number % 8}`);

  function element(tag, text, className) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  function format(value) {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    return (size && (size < 1e-3 || size >= 1e5) ? value.toExponential(2) : String(Number(value.toPrecision(4))))
      .replace("-", "−");
  }

  // Curves

  function padded(_, low, high) {
    if (low === null) return [0, 1];
    const room = (high - low) * 0.06 || Math.abs(high) * 0.05 || 0.05;
    return [low - room, high + room];
  }

  function chartOptions(chart, width) {
    const axis = { stroke: colour("--faint"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") },
      font: "13px system-ui, sans-serif" };
    const series = [{ label: "iteration", value: (_, value) => format(value) }];
    const bands = [];
    chart.lines.forEach((line) => {
      const isMark = line.run === null, stroke = isMark ? colour("--faint") : seriesColour(line.run);
      const points = { show: chart.x.length < 30 && !isMark, size: 6, fill: stroke };
      series.push({ label: line.label, stroke, width: 2, dash: isMark ? [6, 5] : [], spanGaps: true, points,
        value: (_, value) => format(value) });
      if (line.low) {
        bands.push({ series: [series.length, series.length + 1], fill: `${stroke}2b` });
        for (const label of ["high", "low"])
          series.push({ label, class: "band", width: 0, points: { show: false }, spanGaps: true });
      }
    });
    return { width, height: Math.max(200, Math.min(320, width * 0.55)), series, bands, scales: { x: { time: false }, y: { range: padded } },
      axes: [{ ...axis, label: "iteration", size: 32, labelSize: 20, labelFont: axis.font, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000] },
        { ...axis, size: 64, values: (_, ticks) => ticks.map(format) }],
      cursor: { y: false } };
  }

  function chartData(chart) {
    return [chart.x, ...chart.lines.flatMap((line) => (line.low ? [line.y, line.high, line.low] : [line.y]))];
  }

  function drawChart(place) {
    const chart = data.charts[Number(place.dataset.chart)];
    if (place.clientWidth === 0) return;
    if (place.plot) place.plot.destroy();
    place.plot = new uPlot(chartOptions(chart, place.clientWidth), chartData(chart), place);
  }

  function drawCharts() {
    for (const place of document.querySelectorAll("[data-chart]")) drawChart(place);
  }

  // Draws in the next frame: what is drawn changes sizes, and an observer that changes them while it tells of them fails.
  function onResize(place, draw) {
    new ResizeObserver(() => requestAnimationFrame(draw)).observe(place);
  }

  for (const place of document.querySelectorAll("[data-chart]"))
    onResize(place, () => { if (!place.plot || place.plot.width !== place.clientWidth) drawChart(place); });

  // Points in space, drawn on a canvas and turned by dragging or by the arrow keys

  const SCALE = 32000;

  function decodePoints(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Int16Array(bytes.buffer, 0, bytes.length >> 1);
  }

  function drawPoints(canvas) {
    const { points, turn, tilt } = canvas.view;
    const ratio = window.devicePixelRatio || 1;
    const edge = Math.round(canvas.clientWidth * ratio);
    if (canvas.width !== edge) canvas.width = canvas.height = edge;
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, edge, edge);
    const [sine, cosine, up, out] = [Math.sin(turn), Math.cos(turn), Math.sin(tilt), Math.cos(tilt)];
    const placed = [];
    for (let i = 0; i + 2 < points.length; i += 3) {
      const [x, y, z] = [points[i] / SCALE, points[i + 1] / SCALE, points[i + 2] / SCALE];
      const depth = -sine * x + cosine * z;
      placed.push([cosine * x + sine * z, out * y - up * depth, up * y + out * depth]);
    }
    placed.sort((a, b) => a[2] - b[2]);
    const radius = Math.max(1.2, edge / (9 * Math.sqrt(placed.length + 30)));
    pen.fillStyle = colour("--series-0");
    for (const [x, y, depth] of placed) {
      pen.globalAlpha = 0.3 + 0.7 * Math.min(1, Math.max(0, (depth + 1.2) / 2.4));
      pen.beginPath();
      pen.arc(edge * (0.5 + 0.3 * x), edge * (0.5 - 0.3 * y), radius, 0, 7);
      pen.fill();
    }
  }

  function pointCanvas(item) {
    const canvas = element("canvas");
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${item.title}: points; arrow keys turn them`);
    canvas.view = { points: decodePoints(item.points), turn: -0.6, tilt: 0.35 };
    const turn = (across, down) => {
      canvas.view.turn += across;
      canvas.view.tilt = Math.min(1.6, Math.max(-1.6, canvas.view.tilt + down));
      drawPoints(canvas);
    };
    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons) turn(event.movementX / 90, event.movementY / 90);
    });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-0.2, 0], ArrowRight: [0.2, 0], ArrowUp: [0, -0.2], ArrowDown: [0, 0.2] }[event.key];
      if (step) { event.preventDefault(); turn(...step); }
    });
    onResize(canvas, () => drawPoints(canvas));
    return canvas;
  }

  // Gallery

  const gallery = byId("gallery");
  const PAGE = 24;
  let limit = PAGE, listed = [], open = -1, viewer3d = null;

  function picture(item) {
    const image = element("img");
    image.alt = item.title;
    image.src = `data:image/${item.image.startsWith("/9j/") ? "jpeg" : "png"};base64,${item.image}`;
    image.addEventListener("load", () => { if (image.naturalWidth < 100) image.style.imageRendering = "pixelated"; });
    return image;
  }

  function factText(value) {
    return typeof value === "number" ? format(value) : value;
  }

  function factList(list, item) {
    const facts = { samples: data.gallery.sets[item.set], ...item.facts };
    for (const [name, value] of Object.entries(facts)) list.append(element("dt", name), element("dd", factText(value)));
    return list;
  }

  function card(item, number) {
    const made = element("article", undefined, "card");
    const button = element("button", undefined, "look");
    button.type = "button";
    if (item.points) made.append(pointCanvas(item));
    else if (item.image) button.append(picture(item));
    else button.append(element("span", "no picture", "missing"));
    if (item.points) button.textContent = "Enlarge";
    button.setAttribute("aria-label", `Open ${item.title}`);
    button.addEventListener("click", () => show(number));
    made.append(button, element("h3", item.title), factList(element("dl"), item));
    return made;
  }

  function words(item) {
    const facts = Object.entries(item.facts).map(([name, value]) => `${name}: ${factText(value)}`);
    return [item.title, ...facts].join("\n").toLowerCase();
  }

  function select() {
    const set = byId("set").value, order = byId("order").value, asked = byId("filter").value.trim().toLowerCase();
    listed = data.gallery.items.filter((item) => (set === "" || item.set === Number(set)) && (!asked || words(item).includes(asked)));
    if (order) {
      const name = order.slice(1), sign = order[0] === "+" ? 1 : -1;
      const value = (item) => (typeof item.facts[name] === "number" ? item.facts[name] : NaN);
      listed.sort((a, b) => (Number.isNaN(value(a)) - Number.isNaN(value(b))) || sign * (value(a) - value(b)) || 0);
    }
    gallery.replaceChildren(...listed.slice(0, limit).map(card));
    byId("shown").textContent = `${Math.min(limit, listed.length)} of ${listed.length} shown`;
    byId("more").hidden = listed.length <= limit;
  }

  function showStructure(item, stage) {
    let made = null;
    try {
      made = $3Dmol.createViewer(stage, { backgroundColor: colour("--card"), antialias: true });
    } catch { /* no WebGL */ }
    if (!made) {
      stage.replaceChildren(item.image ? picture(item) : element("p", "This browser has no WebGL, which 3D needs."));
      return null;
    }
    const molecule = made.addModel(item.sdf, "sdf");
    const around = item.posed && data.gallery.surroundings[data.gallery.surroundingsOf[item.set]];
    const carbon = around ? { colorscheme: "greenCarbon" } : {};
    molecule.setStyle({}, { stick: { radius: around ? 0.2 : 0.14, ...carbon }, sphere: { scale: around ? 0.18 : 0.26, ...carbon } });
    if (around) showSurroundings(made, around, molecule);
    made.zoomTo({ model: molecule });
    made.zoom(around ? 0.6 : 1.3);
    made.render();
    return made;
  }

  const NEAR = 5; // angstrom

  // Residues with an atom near the molecule are sticks with their names, all others thin lines.
  function showSurroundings(viewer, text, molecule) {
    const receptor = viewer.addModel(text, "pdb"), ligand = molecule.selectedAtoms({}), atoms = receptor.selectedAtoms({});
    const residue = (atom) => (atom.resn === "UNK" ? atom.serial : `${atom.chain} ${atom.resn} ${atom.resi}`);
    const isNear = (atom) => ligand.some((other) => Math.hypot(atom.x - other.x, atom.y - other.y, atom.z - other.z) < NEAR);
    const named = new Map(atoms.filter(isNear).map((atom) => [residue(atom), atom]));
    const close = atoms.filter((atom) => named.has(residue(atom))).map((atom) => atom.serial);
    receptor.setStyle({}, { line: {} });
    receptor.setStyle({ serial: close }, { stick: { radius: 0.09 } });
    for (const atom of named.values()) {
      if (atom.resn === "UNK") continue;
      viewer.addLabel(`${atom.resn} ${atom.resi}`, { position: { x: atom.x, y: atom.y, z: atom.z }, fontSize: 11,
        fontColor: colour("--ink"), backgroundColor: colour("--page"), backgroundOpacity: 0.7, inFront: true });
    }
  }

  function show(number) {
    open = (number + listed.length) % listed.length;
    const item = listed[open], stage = byId("stage");
    byId("viewer-title").textContent = item.title;
    byId("viewer-facts").replaceChildren();
    factList(byId("viewer-facts"), item);
    if (!byId("viewer").open) byId("viewer").showModal();
    closeStructure();
    byId("hint").textContent = item.sdf ? "Drag to turn, or use the arrow keys; scroll to come nearer."
      + (item.posed ? " The sample (green) is where the reward sees it; residues within 5 Å of it are sticks." : "")
      : item.points ? "Drag to turn, or click on it and use the arrow keys." : "";
    if (item.sdf) viewer3d = showStructure(item, stage);
    else stage.append(item.points ? pointCanvas(item) : item.image ? picture(item) : element("p", "no picture"));
  }

  function closeStructure() {
    const context = viewer3d && byId("stage").querySelector("canvas")?.getContext("webgl2");
    context?.getExtension("WEBGL_lose_context")?.loseContext(); // browsers keep few of them
    viewer3d = null;
    byId("stage").replaceChildren();
  }

  if (gallery) {
    const names = new Set(data.gallery.items.flatMap((item) =>
      Object.keys(item.facts).filter((name) => typeof item.facts[name] === "number")));
    for (const name of names) for (const [sign, way] of [["-", "highest first"], ["+", "lowest first"]]) {
      const option = element("option", `${name}, ${way}`);
      option.value = sign + name;
      byId("order").append(option);
    }
    for (const id of ["set", "order", "filter"]) byId(id).addEventListener("input", () => { limit = PAGE; select(); });
    byId("controls").addEventListener("submit", (event) => event.preventDefault());
    byId("more").addEventListener("click", () => { limit += PAGE; select(); });
    byId("previous").addEventListener("click", () => show(open - 1));
    byId("next").addEventListener("click", () => show(open + 1));
    byId("close").addEventListener("click", () => byId("viewer").close());
    byId("viewer").addEventListener("close", closeStructure);
    byId("viewer").addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-15, "y"], ArrowRight: [15, "y"], ArrowUp: [-15, "x"], ArrowDown: [15, "x"] }[event.key];
      if (viewer3d && step) { event.preventDefault(); viewer3d.rotate(...step); }
    });
    select();
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    drawCharts();
    for (const canvas of document.querySelectorAll("canvas")) if (canvas.view) drawPoints(canvas);
  });
})();
