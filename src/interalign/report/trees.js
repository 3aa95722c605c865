// Persons, messages with their verdicts, and conversation trees to page through. Stands behind shared.js.

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
  // A language model gives a score and no parts.
  if (verdict === null || !(verdict.parts.length || verdict.penalties.length)) return null;
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

function userMessage(words, ledger, model = null) {
  const entries = ledger.map(([kind, entry, said]) => element("li", {}, text(`kind ${kind.split(" ")[0]}`, kind), ` ${entry}`, said ? text("said", ` \u201c${said}\u201d`) : null));
  return block("message user", who("user", model), element("p", { textContent: words }), entries.length ? element("ul", { className: "ledger" }, ...entries) : null);
}

function who(name, model) {
  return element("span", { className: "who" }, name, model ? text("by", ` \u00b7 ${model}`) : null);
}

function replyMessage(name, turn, more) {
  const head = block("reply-head", who(name, turn.model), ...more, scoreBadge(turn.verdict));
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

// -- Trees ------------------------------------------------------------------------------------------------------

// A source that answers twice is told apart by number.
function replyNames({ replies }) {
  const sources = replies.map((reply) => reply.source);
  const number = (place) => sources.slice(0, place + 1).filter((source) => source === sources[place]).length;
  return sources.map((source, place) => (sources.filter((other) => other === source).length > 1 ? `${source} ${number(place)}` : source));
}

// How a reply stands to what follows. Where several replies are continued, one is read on at a time.
function onward(reply, onwards, followed, follow) {
  if (reply.next === null) return reply.continued ? [text("continued", "drawn")] : [];
  if (onwards.length === 1) return [text("continued", "went on")];
  const button = element("button", { type: "button", className: "follow", textContent: reply === followed ? "read on below" : "read on here" });
  button.setAttribute("aria-pressed", String(reply === followed));
  button.dataset.next = reply.next;
  button.addEventListener("click", () => follow(reply.next));
  return [button];
}

function comparison(names, { pair: [first, second], votes }) {
  const meant = { first: names[first], second: names[second], tie: "equally good" };
  const said = votes.map((vote) => (vote === null ? "not readable" : meant[vote]));
  const agreed = !votes.includes(null) && votes[0] === votes[1];
  const outcome = agreed ? `both orders: ${said[0]}` : votes.includes(null) ? "undecided" : "the two orders disagree";
  return element("p", { className: "comparison" },
    text("who", "judge, comparing"), text(agreed ? "outcome agreed" : "outcome", outcome),
    ...[first, second].map((place, order) => text("order", `${names[place]} shown first: ${said[order]}`)));
}

function faultList(faults, where) {
  if (!faults.length) return null;
  const items = faults.map((fault) => element("li", {}, text("tag", `${fault.role}: ${fault.check}`), ` try ${fault.attempt + 1}`, element("p", { textContent: fault.text })));
  const number = faults.length === 1 ? "1 fault" : `${faults.length} faults`;
  return element("details", { className: "faults" }, element("summary", { textContent: `${number} ${where}` }), element("ul", {}, ...items));
}

function treeTurn(tree, turn, followed, follow) {
  const names = replyNames(turn);
  const onwards = turn.replies.filter((reply) => reply.next !== null);
  const replies = turn.replies.map((reply, place) => {
    const shown = replyMessage(names[place], reply, onward(reply, onwards, followed, follow));
    if (followed ? reply === followed : reply.continued) shown.classList.add("is-continued");
    return shown;
  });
  const siblings = block("siblings", ...replies);
  siblings.style.setProperty("--columns", Math.max(1, Math.min(replies.length, 4)));
  const several = tree.turns.filter((other) => other.turn === turn.turn).length > 1;
  return element("section", { className: "tree-turn" },
    element("h4", { className: "turn", textContent: `Turn ${turn.turn}` }),
    faultList(tree.faults.filter((fault) => fault.turn === turn.turn), several ? "in this turn, on one of the branches" : "in this turn"),
    userMessage(turn.user, turn.ledger, turn.model), siblings, ...turn.comparisons.map((one) => comparison(names, one)));
}

function treeBlock(tree) {
  const chosen = new Map();
  const shown = block("tree");
  const last = Math.max(0, ...tree.turns.map((turn) => turn.turn));
  function path(start) {
    const made = [];
    for (let at = start; at !== null; ) {
      const here = at, turn = tree.turns[here];
      const onwards = turn.replies.filter((reply) => reply.next !== null);
      const followed = onwards.find((reply) => reply.next === chosen.get(here)) ?? onwards[0] ?? null;
      made.push(treeTurn(tree, turn, followed, (next) => {
        chosen.set(here, next);
        draw();
        shown.querySelector(`[data-next="${next}"]`).focus();
      }));
      at = followed ? followed.next : null;
    }
    return made;
  }
  function draw() {
    const roots = [...tree.turns.keys()].filter((at) => tree.turns[at].root);
    shown.replaceChildren(...roots.flatMap(path));
    const after = faultList(tree.faults.filter((fault) => fault.turn > last), "in the turn after");
    if (after) shown.append(after);
    if (tree.failure !== null) shown.append(element("p", { className: "failure", textContent: `Not all went as planned: ${tree.failure}` }));
  }
  draw();
  return shown;
}

function trees(place, noun) {
  if (!place || !data.trees.length) return;
  browser(place, noun, data.trees, (tree) => [personPanel(tree.person), treeBlock(tree)]);
}
