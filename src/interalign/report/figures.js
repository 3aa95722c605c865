// Curves with their bands and differences with their intervals. Stands behind shared.js, in front of a page's own script.
// Needs `data.models` (name, kind, al), `data.turns` and `data.baseline`, which may be null. The levels of a curve are one
// [value, low, high] a turn.

const DASHES = ["dash", "dot", "dashdot", "longdash"];
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "x"];

function label(name) {
  const most = narrow.matches ? 20 : 28;
  const short = name.length > most ? name.slice(0, most - 1) + "\u2026" : name;
  return unmarked(short);
}

function looks() {
  const place = { model: 0, control: 0 };
  return data.models.map((model) => {
    if (model.name === data.baseline) {
      return { color: ink("--series-0"), dash: "solid", symbol: "circle-open", width: 2.5 };
    }
    const index = place[model.kind]++;
    if (model.kind === "control") {
      return { color: ink("--control"), dash: DASHES[index % DASHES.length], symbol: SYMBOLS[index % 6], width: 1.5 };
    }
    // A seventh model has the colour of the first with another symbol.
    return { color: ink(`--series-${1 + (index % 6)}`), dash: "solid", symbol: SYMBOLS[(index + Math.floor(index / 6)) % 6], width: 2.5 };
  });
}

function translucent(color, share) {
  const number = parseInt(color.slice(1), 16);
  return `rgba(${number >> 16},${(number >> 8) & 255},${number & 255},${share})`;
}

function curveTraces(model, levels, look, turns, digits) {
  const known = turns.filter((turn) => levels[turn - 1] !== null);
  const bounded = known.filter((turn) => levels[turn - 1][1] !== null);
  const band = {
    x: [...bounded, ...bounded.slice().reverse()],
    y: [...bounded.map((turn) => levels[turn - 1][2]), ...bounded.slice().reverse().map((turn) => levels[turn - 1][1])],
    fill: "toself", fillcolor: translucent(look.color, model.kind === "model" ? 0.16 : 0.08), line: { width: 0 },
    mode: "lines", hoverinfo: "skip", showlegend: false, legendgroup: model.name,
  };
  const line = {
    x: known, y: known.map((turn) => levels[turn - 1][0]), name: label(model.name), legendgroup: model.name,
    mode: "lines+markers", line: { color: look.color, width: look.width, dash: look.dash },
    marker: { color: look.color, size: model.kind === "model" ? 8 : 6, symbol: look.symbol, line: { color: look.color, width: 2 } },
    customdata: known.map((turn) => bounds(levels[turn - 1], digits)),
    hovertemplate: `%{fullData.name}<br>turn %{x}: %{y:.${digits}f} (%{customdata})<extra></extra>`,
  };
  return bounded.length > 1 ? [band, line] : [line];
}

function bounds([, low, high], digits) {
  return low === null ? "no interval" : `${low.toFixed(digits)} to ${high.toFixed(digits)}`;
}

// Names at the ends of their lines, pushed apart until they do not overlap.
function endLabels(curves, last, height, [lowest, highest]) {
  const perPixel = (highest - lowest) / height;
  const ends = curves
    .map(({ model, levels, look }) => ({ model, color: look.color, y: levels.filter((level) => level !== null && level[0] !== null).map((level) => level[0]).at(-1) }))
    .filter((end) => end.y !== undefined)
    .sort((one, other) => one.y - other.y);
  let free = -Infinity;
  const placed = ends.map((end) => {
    free = Math.max(end.y, free + 17 * perPixel);
    return { ...end, at: free };
  });
  const above = placed.length ? Math.max(0, placed.at(-1).at - highest) : 0;
  return placed.map((end) => ({
    x: last, y: end.at - above, text: label(end.model.name), xanchor: "left", xshift: 12, showarrow: false,
    font: { color: end.color, size: 13 },
  }));
}

const AL_AXIS = { range: [0.9, 5.1], tickvals: [1, 2, 3, 4, 5], zeroline: false };

// A curve a model: `field` holds its levels, of the turns that any model has.
function drawCurves(id = "curves-figure", field = "al", axis = AL_AXIS, digits = 2) {
  const styles = looks();
  const curves = data.models.map((model, index) => ({ model, levels: model[field], look: styles[index] })).filter((curve) => curve.levels);
  const every = curves[0].levels.map((_, index) => index + 1);
  const turns = field === "al" ? every : every.filter((turn) => curves.some((curve) => curve.levels[turn - 1] && curve.levels[turn - 1][0] !== null));
  const traces = curves.slice().reverse().flatMap(({ model, levels, look }) => curveTraces(model, levels, look, turns, digits)); // models over controls
  const wide = !narrow.matches;
  const longest = Math.max(...curves.map(({ model }) => Math.min(model.name.length, 28)));
  const height = document.getElementById(id).clientHeight - 60;
  Plotly.react(id, traces, layout({
    showlegend: !wide,
    legend: { orientation: "h", y: -0.12, yanchor: "top", x: 0, traceorder: "reversed", itemclick: false, itemdoubleclick: false },
    margin: { l: 8, r: wide ? 24 + 7.6 * longest : 12, t: 8, b: 8 },
    annotations: wide ? endLabels(curves, turns.at(-1), height, axis.range) : [],
    xaxis: { tickvals: turns, ticktext: turns.map((turn, place) => (place === 0 ? `turn ${turn}` : String(turn))), showgrid: false, zeroline: false, range: [turns[0] - 0.15, turns.at(-1) + 0.15] },
    yaxis: axis,
  }), { displayModeBar: false, responsive: true });
}

// The part of the scale that the levels take, at least a point of it.
function part(levels) {
  const ends = levels.flatMap(([value, low, high]) => [low ?? value, high ?? value]);
  const middle = (Math.min(...ends) + Math.max(...ends)) / 2;
  const reach = Math.max(0.6, 0.6 * (Math.max(...ends) - Math.min(...ends)));
  return { range: [Math.max(0.9, middle - reach), Math.min(5.1, middle + reach)], nticks: 6, zeroline: false };
}

// A point an item {name, look, x, y}, each of x and y a [value, low, high].
function drawPoints(id, items, xTitle, yTitle) {
  const error = (level, color) => (level[1] === null ? undefined : { type: "data", symmetric: false, array: [level[2] - level[0]], arrayminus: [level[0] - level[1]], color, thickness: 1.5, width: 0 });
  const traces = items.map(({ name, look, x, y }) => ({
    x: [x[0]], y: [y[0]], mode: "markers", name: label(name), marker: { color: look.color, size: 11, symbol: look.symbol, line: { color: look.color, width: 2 } },
    error_x: error(x, look.color), error_y: error(y, look.color),
    customdata: [[bounds(x, 2), bounds(y, 2)]],
    hovertemplate: `%{fullData.name}<br>${xTitle} %{x:.2f} (%{customdata[0]})<br>${yTitle} %{y:.2f} (%{customdata[1]})<extra></extra>`,
  }));
  const title = (words) => ({ text: words, font: { color: ink("--muted"), size: 13 } });
  Plotly.react(id, traces, layout({
    showlegend: true,
    legend: narrow.matches ? { orientation: "h", y: -0.2, yanchor: "top", x: 0, itemclick: false, itemdoubleclick: false } : { x: 1.02, y: 1, itemclick: false, itemdoubleclick: false },
    xaxis: { ...part(items.map((item) => item.x)), title: title(xTitle) }, yaxis: { ...part(items.map((item) => item.y)), title: title(yTitle) },
  }), { displayModeBar: false, responsive: true });
}

// One row an item {name, estimate, look}, the first at the top; an item without a value has no row.
function drawDifferences(id, items, digits, nothing) {
  const shown = items.filter((item) => item.estimate && item.estimate[0] !== null).reverse();
  const figure = document.getElementById(id);
  if (!shown.length) {
    figure.replaceChildren(element("p", { className: "note", textContent: nothing }));
    figure.classList.remove("figure");
    return;
  }
  const traces = shown.map((item, row) => {
    const [value, low, high] = item.estimate;
    return {
      x: [value], y: [row], mode: "markers", showlegend: false, name: label(item.name),
      marker: { color: item.look.color, size: 10, symbol: item.look.symbol },
      error_x: low === null ? undefined : { type: "data", symmetric: false, array: [high - value], arrayminus: [value - low], color: item.look.color, thickness: 2, width: 0 },
      customdata: [bounds(item.estimate, digits)], hovertemplate: `%{fullData.name}: %{x:.${digits}f} (%{customdata})<extra></extra>`,
    };
  });
  figure.style.height = `${70 + 34 * shown.length}px`;
  Plotly.react(id, traces, layout({
    xaxis: { zeroline: true, zerolinewidth: 2, zerolinecolor: ink("--muted"), rangemode: "tozero", nticks: 6 },
    yaxis: { tickvals: shown.map((_, row) => row), ticktext: shown.map((item) => label(item.name)), range: [-0.6, shown.length - 0.4], showgrid: false, zeroline: false, tickfont: { color: ink("--ink") } },
  }), { displayModeBar: false, responsive: true });
}
