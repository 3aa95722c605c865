// Shows the figures, the conversations and the trees of a run's JSON island. Stands behind shared.js, figures.js and
// trees.js.

// -- Figures ----------------------------------------------------------------------------------------------------

function toBaseline(field) {
  const styles = looks();
  return data.models.map((model, index) => ({ name: model.name, estimate: model[field], look: styles[index] }));
}

function drawFigures() {
  const nothing = "There is nothing to compare with the baseline.";
  drawCurves();
  drawDifferences("difference-figure", toBaseline("difference"), 2, nothing);
  drawDifferences("ir-difference-figure", toBaseline("irDifference"), 3, nothing);
  drawHelpfulness();
  drawInPlace();
  drawLearnt();
}

function drawHelpfulness() {
  if (!document.getElementById("help-figure")) return;
  const styles = looks();
  const items = data.models
    .map((model, index) => ({ name: model.name, look: styles[index], x: model.meanAl, y: model.helpfulness }))
    .filter(({ x, y }) => x && y && x[0] !== null && y[0] !== null);
  drawPoints("help-figure", items, "mean alignment level", "helpfulness");
}

// A figure that is there already is kept.
function figureIn(place, id, caption, description) {
  if (!document.getElementById(id)) {
    const made = element("div", { id, className: "figure", role: "img", "aria-label": description });
    place.append(element("figure", {}, element("figcaption", { textContent: caption }), made));
  }
  return id;
}

function drawInPlace() {
  const place = document.getElementById("place-figures");
  if (!place) return;
  const styles = looks();
  const controls = [...new Set(data.models.flatMap((model) => Object.keys(model.inPlace)))];
  controls.forEach((control, number) => {
    const items = data.models.map((model, index) => ({ name: model.name, estimate: model.inPlace[control] ?? null, look: styles[index] }));
    const id = figureIn(place, `place-figure-${number}`, `Minus ${control}`, `Differences of each model to ${control}, with intervals. The values stand in the table below.`);
    drawDifferences(id, items, 2, "Nothing of it was judged.");
  });
}

function drawLearnt() {
  const place = document.getElementById("learnt-figures");
  if (!place) return;
  const asked = (field) => new Set(data.models.flatMap((model) => (model[field] ?? []).flatMap((level, turn) => (level && level[0] !== null ? [turn] : []))));
  const axis = { range: [-0.02, 1.02], tickformat: ".0%", zeroline: false };
  for (const [field, caption] of [["precision", "True, of what it states"], ["recall", "Noticed, of what was shown"]]) {
    // Of one turn the table says all.
    if (asked(field).size < 2) continue;
    drawCurves(figureIn(place, `${field}-figure`, caption, `${caption}, turn by turn. The values stand in the table below.`), field, axis);
  }
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
  const reply = replyMessage(name, turn, [...uptake, ...measures(turn)]);
  reply.append(...[othersInPlace(turn.controls), learnt(turn.induction)].filter(Boolean));
  cell.append(reply);
  const faults = faultList(turn.faults ?? [], "of others in this turn");
  if (faults) cell.append(faults);
  return cell;
}

function measures(turn) {
  const shown = [];
  if (turn.helpfulness !== undefined) shown.push(text("measure", `helpful ${turn.helpfulness.toFixed(1)}`));
  if (turn.elsewhere !== null && turn.verdict !== null && !turn.verdict.parts.length) shown.push(text("measure", `to somebody else ${turn.elsewhere.toFixed(1)}`));
  if (turn.mindReading) shown.push(text("measure bad", "claims what nobody said"));
  return shown;
}

function othersInPlace(controls) {
  if (!controls) return null;
  const replies = controls.map(({ name, reply, verdict }) =>
    block("other-reply", block("reply-head", text("who", name), scoreBadge(verdict)), element("p", { textContent: reply })));
  return element("details", { className: "aside-note" }, element("summary", { textContent: "other replies in its place, never said" }), ...replies);
}

function learnt(said) {
  if (!said) return null;
  const found = `${said.true} of ${said.statements.length} true, ${said.found} of ${said.disclosed} noticed`;
  const statements = said.statements.map((one) => element("li", { textContent: one }));
  return element("details", { className: "aside-note" }, element("summary", { textContent: `says it has learnt: ${found}` }),
    statements.length ? element("ul", {}, ...statements) : element("p", { textContent: "It states nothing." }));
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
