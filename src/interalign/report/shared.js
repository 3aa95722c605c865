"use strict";
// What the scripts of all pages share. It is put in front of a page's own script, in the same element. Texts of models,
// users and files only ever become text nodes.

const data = JSON.parse(document.getElementById("data").textContent);
const narrow = window.matchMedia("(max-width: 719px)");
const dark = window.matchMedia("(prefers-color-scheme: dark)");

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const block = (className, ...children) => element("div", { className }, ...children);
const text = (className, words) => element("span", { className, textContent: words });
const points = (value) => (value === null ? "\u2013" : value.toFixed(2));

function ink(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// Plotly reads a small markup in its labels; names and descriptions are none.
function unmarked(words) {
  return words.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

// The looks of a figure, and what is its own; axes are merged key by key.
function layout(more) {
  const axis = {
    gridcolor: ink("--rule"), zerolinecolor: ink("--rule"), linecolor: ink("--rule"), automargin: true,
    tickfont: { color: ink("--muted") }, fixedrange: true,
  };
  const base = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true,
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: ink("--ink") },
    hoverlabel: { bgcolor: ink("--card"), bordercolor: ink("--rule"), font: { color: ink("--ink") } },
    margin: { l: 8, r: 12, t: 8, b: 8 },
  };
  const { xaxis, yaxis, ...rest } = more;
  return { ...base, ...rest, xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis } };
}
