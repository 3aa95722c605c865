// Shows the figures, the conversations and the trees of a run's JSON island. Stands behind shared.js and trees.js.

const DASHES = ["dash", "dot", "dashdot", "longdash"];
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "x"];

// -- Figures ----------------------------------------------------------------------------------------------------

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
    return { color: ink(`--series-${1 + (index % 6)}`), dash: "solid", symbol: SYMBOLS[index % 6], width: 2.5 };
  });
}

function translucent(color, share) {
  const number = parseInt(color.slice(1), 16);
  return `rgba(${number >> 16},${(number >> 8) & 255},${number & 255},${share})`;
}

function curveTraces(model, look) {
  const turns = model.al.map((_, index) => index + 1);
  const bounded = turns.filter((turn) => model.al[turn - 1][1] !== null);
  const band = {
    x: [...bounded, ...bounded.slice().reverse()],
    y: [...bounded.map((turn) => model.al[turn - 1][2]), ...bounded.slice().reverse().map((turn) => model.al[turn - 1][1])],
    fill: "toself", fillcolor: translucent(look.color, model.kind === "model" ? 0.16 : 0.08), line: { width: 0 },
    mode: "lines", hoverinfo: "skip", showlegend: false, legendgroup: model.name,
  };
  const line = {
    x: turns, y: model.al.map((level) => level[0]), name: label(model.name), legendgroup: model.name,
    mode: "lines+markers", line: { color: look.color, width: look.width, dash: look.dash },
    marker: { color: look.color, size: model.kind === "model" ? 8 : 6, symbol: look.symbol, line: { color: look.color, width: 2 } },
    customdata: model.al.map((level) => (level[1] === null ? "no interval" : `${points(level[1])} to ${points(level[2])}`)),
    hovertemplate: "%{fullData.name}<br>turn %{x}: %{y:.2f} (%{customdata})<extra></extra>",
  };
  return bounded.length > 1 ? [band, line] : [line];
}

// Names at the ends of their lines, pushed apart until they do not overlap.
function endLabels(height) {
  const perPixel = 4.2 / height;
  const ends = data.models
    .map((model, index) => ({ model, color: looks()[index].color, y: model.al.map((level) => level[0]).filter((y) => y !== null).at(-1) }))
    .filter((end) => end.y !== undefined)
    .sort((one, other) => one.y - other.y);
  let free = -Infinity;
  const placed = ends.map((end) => {
    free = Math.max(end.y, free + 17 * perPixel);
    return { ...end, at: free };
  });
  const above = placed.length ? Math.max(0, placed.at(-1).at - 5.1) : 0;
  return placed.map((end) => ({
    x: data.turns, y: end.at - above, text: label(end.model.name), xanchor: "left", xshift: 12, showarrow: false,
    font: { color: end.color, size: 13 },
  }));
}

function drawCurves() {
  const styles = looks();
  const order = [...data.models.keys()].reverse(); // models over controls
  const traces = order.flatMap((index) => curveTraces(data.models[index], styles[index]));
  const turns = data.models[0].al.map((_, index) => index + 1);
  const wide = !narrow.matches;
  const longest = Math.max(...data.models.map((model) => Math.min(model.name.length, 28)));
  Plotly.react("curves-figure", traces, layout({
    showlegend: !wide,
    legend: { orientation: "h", y: -0.12, yanchor: "top", x: 0, traceorder: "reversed", itemclick: false, itemdoubleclick: false },
    margin: { l: 8, r: wide ? 24 + 7.6 * longest : 12, t: 8, b: 8 },
    annotations: wide ? endLabels(370) : [],
    xaxis: { tickvals: turns, ticktext: turns.map((turn) => (turn === 1 ? "turn 1" : String(turn))), showgrid: false, zeroline: false, range: [0.85, data.turns + 0.15] },
    yaxis: { range: [0.9, 5.1], tickvals: [1, 2, 3, 4, 5], zeroline: false },
  }), { displayModeBar: false, responsive: true });
}

function drawDifferences(id, field, digits) {
  const styles = looks();
  const shown = [...data.models.keys()].filter((index) => data.models[index][field] && data.models[index][field][0] !== null).reverse();
  const figure = document.getElementById(id);
  if (!shown.length) {
    figure.replaceChildren(element("p", { className: "note", textContent: "There is nothing to compare with the baseline." }));
    figure.classList.remove("figure");
    return;
  }
  const traces = shown.map((index, row) => {
    const [value, low, high] = data.models[index][field];
    const bounds = low === null ? "no interval" : `${low.toFixed(digits)} to ${high.toFixed(digits)}`;
    return {
      x: [value], y: [row], mode: "markers", showlegend: false, name: label(data.models[index].name),
      marker: { color: styles[index].color, size: 10, symbol: styles[index].symbol },
      error_x: low === null ? undefined : { type: "data", symmetric: false, array: [high - value], arrayminus: [value - low], color: styles[index].color, thickness: 2, width: 0 },
      customdata: [bounds], hovertemplate: `%{fullData.name}: %{x:.${digits}f} (%{customdata})<extra></extra>`,
    };
  });
  figure.style.height = `${70 + 34 * shown.length}px`;
  Plotly.react(id, traces, layout({
    xaxis: { zeroline: true, zerolinewidth: 2, zerolinecolor: ink("--muted"), rangemode: "tozero", nticks: 6 },
    yaxis: { tickvals: shown.map((_, row) => row), ticktext: shown.map((index) => label(data.models[index].name)), range: [-0.6, shown.length - 0.4], showgrid: false, zeroline: false, tickfont: { color: ink("--ink") } },
  }), { displayModeBar: false, responsive: true });
}

function drawFigures() {
  drawCurves();
  drawDifferences("difference-figure", "difference", 2);
  drawDifferences("ir-difference-figure", "irDifference", 3);
}

// -- Conversations ----------------------------------------------------------------------------------------------

function startingModels() {
  const models = data.models.filter((model) => model.kind === "model").map((model) => model.name);
  const others = models.filter((name) => name !== data.baseline);
  const listener = data.models.find((model) => model.kind === "control");
  return [data.baseline, ...others.slice(-2), ...(others.length < 2 && listener ? [listener.name] : [])];
}

function meanScore(chat) {
  const scores = chat.filter((turn) => turn.verdict !== null).map((turn) => turn.verdict.score);
  return scores.length ? scores.reduce((sum, score) => sum + score, 0) / scores.length : null;
}

function chatCell(name, turn, column) {
  const cell = block("cell");
  cell.style.setProperty("--column", column);
  if (!turn) return cell;
  cell.append(userMessage(turn.user, turn.ledger));
  if (turn.failure !== null) {
    cell.append(element("p", { className: "failure", textContent: `This turn failed: ${turn.failure}` }));
    return cell;
  }
  const uptake = turn.uptake === null ? [] : [text(turn.uptake ? "uptake met" : "uptake", turn.uptake ? "wish taken up" : "wish missed again")];
  cell.append(replyMessage(name, turn, uptake));
  return cell;
}

function chatGrid(item, names) {
  const grid = block("chats");
  grid.style.setProperty("--columns", names.length);
  for (const name of names) {
    const mean = meanScore(item.chats[name]);
    grid.append(element("h3", { className: "column-head" }, text("name", name), text("mean", mean === null ? "not judged" : `mean ${points(mean)}`)));
  }
  for (let turn = 1; turn <= data.turns; turn++) {
    grid.append(element("h4", { className: "turn", textContent: `Turn ${turn}` }));
    names.forEach((name, column) => grid.append(chatCell(name, item.chats[name].find((one) => one.turn === turn), column + 1)));
  }
  return grid;
}

function conversations(place) {
  if (!data.cases.length) return;
  let chosen = new Set(startingModels());
  let alone = data.models.filter((model) => model.kind === "model").at(-1).name;
  const isShown = (name) => (narrow.matches ? name === alone : chosen.has(name));
  const names = () => data.models.map((model) => model.name).filter(isShown);
  const choices = element("div", { className: "choices", role: "group" });
  choices.setAttribute("aria-label", "Models shown");
  const buttons = data.models.map(({ name, kind }) => {
    const button = element("button", { type: "button", className: `choice ${kind}`, textContent: name });
    button.addEventListener("click", () => {
      if (narrow.matches) alone = name;
      else if (!chosen.has(name)) chosen = new Set([...chosen, name]);
      else if (chosen.size > 1) chosen = new Set([...chosen].filter((other) => other !== name));
      refresh();
    });
    choices.append(button);
    return button;
  });
  const mark = () => data.models.forEach(({ name }, index) => buttons[index].setAttribute("aria-pressed", String(isShown(name))));
  place.append(choices);
  const again = browser(place, "person", data.cases, (item) => [personPanel(item.person), block("scroll", chatGrid(item, names()))]);
  const refresh = () => { mark(); again(); };
  narrow.addEventListener("change", refresh);
  mark();
}

drawFigures();
narrow.addEventListener("change", drawFigures);
dark.addEventListener("change", drawFigures);
conversations(document.getElementById("case-browser"));
trees(document.getElementById("tree-browser"), "tree");
