// Shows the curves and the conversations of a simulation's JSON island. Stands behind shared.js and trees.js.

const SOURCES = { tailored: ["--series-1", "circle", "solid"], generic: ["--series-2", "square", "solid"] };
const KINDS = [["statements", "all", "--series-0", "solid"], ["profile", "facts", "--series-1", "dot"], ["personality", "traits", "--series-2", "dash"]];

const count = (value) => value.toLocaleString("en");

function line(name, turns, values, color, more) {
  return {
    x: turns, y: values, name: unmarked(name), mode: "lines+markers", connectgaps: false, cliponaxis: false,
    line: { color: ink(color), width: 2.5, dash: more.dash }, marker: { color: ink(color), size: 8, symbol: more.symbol },
    customdata: more.hover, hovertemplate: "%{fullData.name}, turn %{x}: %{customdata}<extra></extra>",
  };
}

function draw(id, traces, turns, yaxis) {
  const figure = document.getElementById(id);
  if (!figure) return;
  Plotly.react(figure, traces, layout({
    showlegend: traces.filter((trace) => trace.name).length > 1,
    legend: { orientation: "h", y: 1.04, yanchor: "bottom", x: 0, itemclick: false, itemdoubleclick: false },
    xaxis: { tickvals: turns.length > 12 ? undefined : turns, range: [turns[0] - 0.2, turns.at(-1) + 0.2], title: { text: "turn", font: { color: ink("--muted"), size: 12 }, standoff: 4 }, showgrid: false, zeroline: false },
    yaxis: { zeroline: false, ...yaxis },
  }), { displayModeBar: false, responsive: true });
}

function drawScores() {
  const turns = [...new Set(data.scores.flatMap((one) => one.turns.map((at) => at.turn)))].sort((a, b) => a - b);
  const traces = data.scores.map(({ source, turns: of }) => {
    const [color, symbol, dash] = SOURCES[source] ?? ["--series-3", "diamond", "dash"];
    return line(source, of.map((at) => at.turn), of.map((at) => at.mean), color, { symbol, dash, hover: of.map((at) => `${points(at.mean)}, of ${count(at.count)} scores`) });
  });
  draw("scores-figure", traces, turns, { range: [0.9, 5.1], tickvals: [1, 2, 3, 4, 5] });
}

function drawDuels() {
  const turns = data.duels.map((one) => one.turn);
  const hover = data.duels.map((one) => `${count(one.won)} won, ${count(one.lost)} lost, ${count(one.tied)} tied, ${count(one.undecided)} undecided`);
  const won = line("tailored", turns, data.duels.map((one) => (one.share === null ? null : 100 * one.share)), "--series-1", { symbol: "circle", dash: "solid", hover });
  const half = { x: [turns[0] - 1, turns.at(-1) + 1], y: [50, 50], mode: "lines", hoverinfo: "skip", showlegend: false, line: { color: ink("--muted"), width: 1.5, dash: "dot" } };
  draw("duels-figure", [half, won], turns, { range: [-3, 103], tickvals: [0, 25, 50, 75, 100], ticktext: ["0 %", "25 %", "50 %", "75 %", "100 %"] });
}

function drawKnown() {
  const turns = data.known.map((one) => one.turn);
  const traces = KINDS.map(([field, name, color, dash]) =>
    line(name, turns, data.known.map((one) => one[field]), color, { dash, symbol: "circle", hover: data.known.map((one) => `${points(one[field])}, mean of ${count(one.users)} users`) }));
  draw("known-figure", traces, turns, { rangemode: "tozero" });
}

function drawFigures() {
  if (data.scores.length) drawScores();
  if (data.duels.length) drawDuels();
  if (data.known.length) drawKnown();
}

drawFigures();
narrow.addEventListener("change", drawFigures);
dark.addEventListener("change", drawFigures);
trees(document.getElementById("tree-browser"), "conversation");
