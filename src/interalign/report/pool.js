// Shows the curves, the maps and the rejected candidates of a pool's JSON island. Stands behind shared.js. In hover
// texts, which are no text nodes, the markup of descriptions is taken out.

const PAGE = 20;
const SIDES = [["train", "to train on", "--level-0"], ["refused", "refused", "--level-3"], ["heldout", "held out", "--level-1"]];
const ORIGINS = { seed: ["diamond", 9.5], generated: ["circle", 7], imported: ["square", 7] };
const ACCEPTED_PIXELS = 130; // what "everything accepted" takes
const AXIS_PIXELS = 60; // what the axis beside a curve takes, with the margins
const UNSTATED = { label: "not stated", color: "--unstated" };

// -- Elements ---------------------------------------------------------------------------------------------------

const cosine = (value) => (value === null ? "\u2013" : value.toFixed(3));
const count = (value) => value.toLocaleString("en");

function button(words, label, act) {
  const made = element("button", { type: "button", textContent: words, title: label });
  made.setAttribute("aria-label", label);
  made.addEventListener("click", act);
  return made;
}

function choice(label, options, act) {
  const made = element("select", {}, ...options.map(([value, words]) => element("option", { value, textContent: words })));
  made.setAttribute("aria-label", label);
  made.addEventListener("change", () => act(made.value));
  return made;
}

// -- Figures ----------------------------------------------------------------------------------------------------

// The looks of both figures: no legend, and hover labels that a description can be read in.
function plain(more) {
  const font = { family: getComputedStyle(document.body).fontFamily, size: 13, color: ink("--ink") };
  return layout({ showlegend: false, hoverlabel: { bgcolor: ink("--card"), bordercolor: ink("--control"), align: "left", font }, ...more });
}

// Lines are broken at words, long words are cut up.
function hoverText(words, width) {
  const lines = [""];
  for (const word of words.split(/\s+/).flatMap((one) => one.match(new RegExp(`.{1,${width}}`, "gu")) ?? [])) {
    const line = lines.at(-1);
    if (line && line.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = line ? `${line} ${word}` : word;
  }
  const shown = lines.length > 16 ? [...lines.slice(0, 15), "\u2026"] : lines;
  return shown.map(unmarked).join("<br>");
}

// The name of the dotted line, from (0, first) to (end, first + end): above its middle, or a little further up where
// the axis would be in the way; beside the end of a line too steep for both.
function acceptedLabel(first, end, pixels) {
  const share = Math.max(0.5, ACCEPTED_PIXELS / pixels);
  const look = { text: "everything accepted", showarrow: false, bgcolor: ink("--paper"), font: { color: ink("--muted"), size: 12 } };
  if (share > 0.9) return { ...look, x: end, y: first + end, xanchor: "left", yanchor: "middle", xshift: 8 };
  return { ...look, x: share * end, y: first + share * end, xanchor: "right", yanchor: "bottom", xshift: -4 };
}

function drawGrowth(one) {
  const figure = document.getElementById(`growth-${one.kind}`);
  if (!figure) return;
  const [[, first], [asked, size]] = [one.growth[0], one.growth.at(-1)];
  const top = 1.12 * size;
  const end = Math.min(asked, top - first);
  const curve = {
    x: one.growth.map((step) => step[0]), y: one.growth.map((step) => step[1]), mode: "lines", cliponaxis: false,
    line: { color: ink("--accent"), width: 2.5 }, fill: "tozeroy", fillcolor: ink("--tint"),
    hovertemplate: "%{y:,} after %{x:,} candidates<extra></extra>",
  };
  const all = {
    x: [0, end], y: [first, first + end], mode: "lines", hoverinfo: "skip",
    line: { color: ink("--muted"), width: 1.5, dash: "dot" },
  };
  const plot = figure.clientWidth - AXIS_PIXELS;
  Plotly.react(figure, [curve, all], plain({
    hovermode: "x",
    annotations: [
      acceptedLabel(first, end, (end / Math.max(asked, 1)) * plot),
      { x: asked, y: size, text: count(size), showarrow: false, xanchor: "right", yanchor: "bottom", yshift: 3, font: { color: ink("--accent"), size: 14 } },
    ],
    xaxis: { title: { text: "candidates", font: { color: ink("--muted"), size: 12 } }, range: [0, 1.01 * asked], showgrid: false, zeroline: false, nticks: narrow.matches ? 5 : 7 },
    yaxis: { range: [0, top], nticks: 6, tickformat: "," },
  }), { displayModeBar: false, responsive: true });
}

// -- The map ----------------------------------------------------------------------------------------------------

function between(one, other, share) {
  const channel = (color, shift) => (parseInt(color.slice(1), 16) >> shift) & 255;
  return `rgb(${[16, 8, 0].map((shift) => Math.round(channel(one, shift) + share * (channel(other, shift) - channel(one, shift)))).join(",")})`;
}

function step(place, places) {
  const share = places < 2 ? 0 : (2 * place) / (places - 1);
  return share <= 1 ? between(ink("--step-low"), ink("--step-middle"), share) : between(ink("--step-middle"), ink("--step-high"), share - 1);
}

// What the points are coloured by: groups in the order of the legend, each with its points' numbers.
function groups(one, by) {
  const members = (belongs) => [...one.points.keys()].filter((index) => belongs(one.points[index]));
  const known = SIDES.map(([side]) => side);
  let found;
  if (by === "side") {
    found = SIDES.map(([side, label, color]) => ({ label, color: ink(color), members: members((point) => point.side === side) }));
    found.push({ label: "not split", color: ink(UNSTATED.color), members: members((point) => !known.includes(point.side)) });
  } else {
    const { ordered, levels } = one.dimensions[by];
    found = levels.map((label, place) => ({
      label, color: ordered ? step(place, levels.length) : ink(`--level-${place % 10}`), members: members((point) => point.levels[by] === place),
    }));
    found.push({ label: UNSTATED.label, color: ink(UNSTATED.color), quiet: true, members: members((point) => point.levels[by] === null) });
  }
  return found.filter((group) => group.members.length);
}

function about(one, point) {
  const side = SIDES.find(([name]) => name === point.side)?.[1] ?? "not split";
  return `${side} \u00b7 ${point.origin} \u00b7 nearest ${cosine(point.score)}`;
}

function trace(one, group, dimmed, width) {
  const points = group.members.map((index) => one.points[index]);
  const seeds = points.map((point) => point.origin === "seed");
  return {
    x: points.map((point) => point.x), y: points.map((point) => point.y), mode: "markers", customdata: group.members,
    hoverinfo: "none", ...(width ? { hoverinfo: "text", hovertext: points.map((point) => `${hoverText(data.texts[point.text], width)}<br><b>${about(one, point)}</b>`) } : {}),
    marker: {
      color: group.color, opacity: dimmed ? 0.08 : group.quiet ? 0.55 : 0.85,
      symbol: points.map((point) => ORIGINS[point.origin][0]), size: points.map((point) => ORIGINS[point.origin][1] * (one.points.length > 1500 ? 0.65 : 1)),
      line: { color: seeds.map((seed) => (seed ? ink("--ink") : ink("--card"))), width: seeds.map((seed) => (seed ? 1.3 : 0.6)) },
    },
  };
}

function drawMap(one, figure, found, only, chosen) {
  const touched = narrow.matches || window.matchMedia("(hover: none)").matches;
  const width = touched ? 0 : Math.min(60, Math.floor(figure.clientWidth / 8));
  // What is rare lies on top, what says nothing at the bottom.
  const order = found.filter((group) => group.quiet).concat(found.filter((group) => !group.quiet).sort((a, b) => b.members.length - a.members.length));
  const traces = order.map((group) => trace(one, group, only !== null && only !== group.label, width));
  const ring = chosen === null ? [] : [one.points[chosen]];
  traces.push({
    x: ring.map((point) => point.x), y: ring.map((point) => point.y), mode: "markers", hoverinfo: "skip",
    marker: { symbol: "circle-open", size: 20, color: ink("--ink"), line: { width: 2.5 } },
  });
  const bare = { showticklabels: false, showline: false, showgrid: false, zeroline: false, fixedrange: touched };
  Plotly.react(figure, traces, plain({
    uirevision: "map", hovermode: "closest", dragmode: touched ? false : "zoom", margin: { l: 14, r: 14, t: 14, b: 14 },
    xaxis: bare, yaxis: { ...bare, scaleanchor: "x" },
  }), { displayModeBar: false, responsive: true, doubleClick: "reset" });
}

function legend(place, found, only, act) {
  place.replaceChildren(...found.map((group) => {
    const swatch = text("swatch", "");
    swatch.style.setProperty("--swatch", group.color);
    const made = element("button", { type: "button", title: "show these alone" }, swatch, text("", group.label), text("tally", count(group.members.length)));
    made.setAttribute("aria-pressed", String(only === group.label));
    made.addEventListener("click", () => act(group.label));
    return made;
  }));
}

function shapes(one) {
  const met = Object.keys(ORIGINS).filter((origin) => one.points.some((point) => point.origin === origin));
  return element("p", { className: "shapes" }, ...met.map((origin) => element("span", {}, text(`shape ${origin}`, ""), origin)));
}

// The box under a map: one description at a time, chosen by click, tap or the arrows.
function reader(one, act) {
  const words = element("p", { textContent: "Click or tap a point to read it, or go through them with the arrows." });
  const line = element("p", { className: "traits" });
  const levels = element("p", { className: "traits" });
  const where = element("output", { className: "where" });
  const last = one.points.length - 1;
  const back = button("\u2190", `Previous of the ${one.plural}`, () => act(now === null ? last : (now + last) % (last + 1)));
  const on = button("\u2192", `Next of the ${one.plural}`, () => act(now === null ? 0 : (now + 1) % (last + 1)));
  let now = null;
  const box = block("reader", block("pager", back, on, where), words, line, levels);
  function show(index) {
    const point = one.points[index];
    now = index;
    where.textContent = `${count(index + 1)} of ${count(last + 1)}`;
    words.textContent = data.texts[point.text];
    line.textContent = about(one, point);
    const shown = one.dimensions.map(({ name, levels: names }, place) => [name, point.levels[place], names]).filter(([, level]) => level !== null);
    levels.textContent = shown.map(([name, level, names]) => `${name}: ${names[level]}`).join(" \u00b7 ");
  }
  return { box, show };
}

function map(one) {
  const place = document.querySelector(`#map-${one.kind} .map-place`);
  if (!place) return () => {};
  let by = "side", only = null, chosen = null;
  const figure = element("div", { className: "figure map-figure", role: "img" });
  figure.setAttribute("aria-label", `Map of ${count(one.points.length)} ${one.plural}; the buttons below it go through them one by one.`);
  const key = element("div", { className: "legend", role: "group" });
  key.setAttribute("aria-label", "Show one group alone");
  const options = [["side", "train and held out"], ...one.dimensions.map(({ name }, index) => [String(index), name])];
  const select = choice(`Colour the ${one.plural} by`, options, (value) => { by = value; only = null; draw(); });
  const box = reader(one, pick);
  function draw() {
    const found = groups(one, by === "side" ? by : Number(by));
    legend(key, found, only, (label) => {
      only = only === label ? null : label;
      draw();
      [...key.children].find((made) => made.children[1].textContent === label)?.focus();
    });
    drawMap(one, figure, found, only, chosen);
  }
  function pick(index) {
    chosen = index;
    box.show(index);
    draw();
  }
  place.append(block("map-tools", text("", "Colour by"), select), figure, key, shapes(one), box.box);
  draw();
  figure.on("plotly_click", (event) => {
    const index = event.points[0].customdata;
    if (index !== undefined) pick(index);
  });
  return draw;
}

// -- Rejected candidates ----------------------------------------------------------------------------------------

function rejectedItem({ kind, threshold, row }) {
  const head = element("p", { className: "twins-head" }, text("tag", row.reason), text("", kind));
  if (row.score !== null) head.append(element("span", {}, "cosine ", element("strong", { textContent: cosine(row.score) }), `, threshold ${threshold}`));
  const other = row.nearest === null ? "It was not compared: \u2013" : data.texts[row.nearest];
  return element("li", { className: "twins-item" }, head, block("twins",
    block("", text("who", "rejected"), element("p", { textContent: data.texts[row.text] })),
    block("", text("who", "nearest in the pool"), element("p", { textContent: other, className: row.nearest === null ? "note" : "" })),
  ));
}

function rejected(place) {
  if (!place) return;
  const all = data.kinds.flatMap((one) => one.rejected.map((row) => ({ kind: one.kind, threshold: one.threshold, row })));
  const wanted = { kind: "", reason: "", words: "", order: "" };
  const list = element("ol", { className: "twins-list" });
  const where = element("output", { className: "where" });
  const reasons = choice("Reason", [], set("reason"));
  const search = element("input", { type: "search", placeholder: "search the texts" });
  search.setAttribute("aria-label", "Search the texts");
  search.addEventListener("input", () => set("words")(search.value.toLowerCase()));
  const back = button("\u2190", "Previous page", () => show(page - 1));
  const on = button("\u2192", "Next page", () => show(page + 1));
  let page = 0, matches = all;

  const distance = ({ threshold, row }) => (row.score === null ? Infinity : Math.abs(row.score - threshold));
  const holds = (index) => index !== null && data.texts[index].toLowerCase().includes(wanted.words);
  function set(field) {
    return (value) => { wanted[field] = value; filter(); };
  }
  function offerReasons() {
    const tally = new Map();
    for (const { kind, row } of all) if (!wanted.kind || kind === wanted.kind) tally.set(row.reason, (tally.get(row.reason) ?? 0) + 1);
    if (!tally.has(wanted.reason)) wanted.reason = "";
    const offered = [["", "all reasons"], ...[...tally].sort((a, b) => b[1] - a[1]).map(([reason, number]) => [reason, `${reason} (${count(number)})`])];
    reasons.replaceChildren(...offered.map(([value, words]) => element("option", { value, textContent: words })));
    reasons.value = wanted.reason;
  }
  function filter() {
    offerReasons();
    matches = all.filter(({ kind, row }) => (!wanted.kind || kind === wanted.kind) && (!wanted.reason || row.reason === wanted.reason) && (holds(row.text) || holds(row.nearest)));
    if (wanted.order) matches.sort((a, b) => (distance(a) === distance(b) ? 0 : distance(a) - distance(b)));
    show(0);
  }
  function show(number) {
    page = number;
    const shown = matches.slice(page * PAGE, (page + 1) * PAGE);
    back.disabled = page === 0;
    on.disabled = (page + 1) * PAGE >= matches.length;
    where.textContent = shown.length ? `${count(page * PAGE + 1)}\u2013${count(page * PAGE + shown.length)} of ${count(matches.length)}` : "none";
    list.replaceChildren(...shown.map(rejectedItem));
    if (!shown.length) list.append(element("li", { className: "note", textContent: "No rejected candidate matches." }));
  }
  const kinds = choice("Kind", [["", "both kinds"], ...data.kinds.map((one) => [one.kind, one.plural])], set("kind"));
  const order = choice("Order", [["", "as they came"], ["near", "closest to the threshold first"]], set("order"));
  place.append(block("filters", kinds, reasons, order, search), block("pager", back, on, where), list);
  filter();
}

const drawMaps = data.kinds.map(map);

function drawAll() {
  data.kinds.forEach(drawGrowth);
  drawMaps.forEach((draw) => draw());
}

data.kinds.forEach(drawGrowth);
narrow.addEventListener("change", drawAll);
dark.addEventListener("change", drawAll);
rejected(document.getElementById("rejected"));
