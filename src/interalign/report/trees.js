// Persons, messages with their verdicts, and conversation trees to page through. Stands behind shared.js.

const points = (value) => (value === null ? "\u2013" : value.toFixed(2));
const words = (name) => name.replaceAll("_", " ");

// -- One verdict, one message -----------------------------------------------------------------------------------

function scoreBadge(verdict) {
  if (verdict === null) return text("score none", "not judged");
  const badge = text("score", verdict.score.toFixed(1));
  badge.style.setProperty("--level", ((verdict.score - 1) / 4).toFixed(3));
  badge.title = "score, from 1 to 5";
  return badge;
}

function verdictDetails(verdict, elsewhere) {
  if (verdict === null) return null;
  const missed = verdict.parts.filter(([, value]) => value < 1);
  const losses = [
    ...missed.map(([name, value]) => text("loss", `${words(name)} ${points(value)}`)),
    ...verdict.penalties.map(([name, value]) => text("loss penalty", `${words(name)} \u2212${points(value)}`)),
  ];
  const all = element("ul", { className: "parts-list" }, ...verdict.parts.map(([name, value]) => element("li", { textContent: `${words(name)} ${points(value)}` })));
  const rest = element("details", {}, element("summary", { textContent: "all parts" }), all);
  if (elsewhere !== null && elsewhere !== undefined) {
    rest.append(element("p", { textContent: `The same reply to somebody else: ${elsewhere.toFixed(1)}` }));
  }
  return block("verdict", losses.length ? block("losses", ...losses) : text("all-met", "everything met"), verdict.parts.length ? rest : null);
}

function userMessage(words, ledger) {
  const entries = ledger.map(([kind, entry]) => element("li", {}, text(`kind ${kind.split(" ")[0]}`, kind), ` ${entry}`));
  return block("message user", text("who", "user"), element("p", { textContent: words }), entries.length ? element("ul", { className: "ledger" }, ...entries) : null);
}

function replyMessage(who, turn, more) {
  const head = block("reply-head", text("who", who), ...more, scoreBadge(turn.verdict));
  return block("message reply", head, element("p", { textContent: turn.reply }), verdictDetails(turn.verdict, turn.elsewhere));
}

function personPanel(id) {
  const person = data.persons[id];
  const panel = element("aside", { className: "person" });
  panel.setAttribute("aria-label", "The person");
  if (!person) {
    panel.append(element("p", { className: "note", textContent: `Nothing is stored about the person ${id}.` }));
    return panel;
  }
  panel.append(element("h3", { textContent: "The person" }), element("p", { textContent: person.profile }), element("p", { textContent: person.personality }));
  if (person.preferences.length) {
    const heaviest = Math.max(...person.preferences.map(([, , weight]) => weight));
    const wishes = person.preferences.map(([dimension, value, weight]) => {
      const wish = element("li", {}, text("wish", dimension), text("wanted", value));
      wish.style.setProperty("--weight", (weight / heaviest).toFixed(3));
      wish.title = `matters with weight ${weight}`;
      return wish;
    });
    panel.append(element("h4", { textContent: "Wants, and never says" }), element("ul", { className: "wishes" }, ...wishes));
  }
  return panel;
}

// -- Paging -----------------------------------------------------------------------------------------------------

function personTitle(index, id) {
  const person = data.persons[id];
  const start = person ? person.profile : id;
  return `${index + 1} \u00b7 ${start.length > 64 ? start.slice(0, 63) + "\u2026" : start}`;
}

// A row of previous, choice and next above a place for what is shown.
function browser(place, noun, items, show) {
  const choice = element("select", { "aria-label": `Choose a ${noun}` }, ...items.map((item, index) => element("option", { value: String(index), textContent: personTitle(index, item.person) })));
  const back = element("button", { type: "button", textContent: "\u2190", title: `previous ${noun}` });
  const on = element("button", { type: "button", textContent: "\u2192", title: `next ${noun}` });
  back.setAttribute("aria-label", `Previous ${noun}`);
  on.setAttribute("aria-label", `Next ${noun}`);
  const where = element("output", { className: "where" });
  const stage = block("stage");
  let current = 0;
  function go(index) {
    current = Math.min(Math.max(index, 0), items.length - 1);
    choice.value = String(current);
    back.disabled = current === 0;
    on.disabled = current === items.length - 1;
    where.textContent = `${current + 1} of ${items.length}`;
    stage.replaceChildren(...show(items[current]));
  }
  back.addEventListener("click", () => go(current - 1));
  on.addEventListener("click", () => go(current + 1));
  choice.addEventListener("change", () => go(Number(choice.value)));
  place.append(block("pager", back, choice, on, where), stage);
  go(0);
  return () => go(current);
}

