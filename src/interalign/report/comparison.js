// Shows the figures of a comparison's JSON island. Stands behind shared.js and figures.js.

function ofPairs(field) {
  const models = looks();
  const place = new Map(data.models.map((model, index) => [model.name, index]));
  return data.pairs.map((pair) => ({
    name: `${pair.second} \u2212 ${pair.first}`, estimate: pair[field], look: models[place.get(pair.second)],
  }));
}

function drawFigures() {
  const nothing = "No difference can be told.";
  drawCurves();
  drawDifferences("al-figure", ofPairs("al"), 2, nothing);
  drawDifferences("ir-figure", ofPairs("ir"), 3, nothing);
}

drawFigures();
narrow.addEventListener("change", drawFigures);
dark.addEventListener("change", drawFigures);
