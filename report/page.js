"use strict";
// The page from top to bottom: summary, lists, graph, questions.

function showSummary() {
  const {costs, layers, calls} = data.summary;
  const free = data.groups.filter((group) => group.blocked == null);
  const held = data.groups.filter((group) => group.blocked != null);
  const exact = free.filter((group) => group.inexact == null).length;
  const tiles = [
    ...Object.entries(costs).map(([name, [before, after]]) => [name, ...change(before, after)]),
    ["layers", number(layers), `${number(calls)} calls`],
    ["groups", number(free.length), `${number(exact)} exact`],
    ["blocked axes", number(held.length), ""],
    ["without a rule", number(data.unknown.length), ""],
  ];
  const rows = d3.select("#summary").selectAll("div").data(tiles).join("div");
  rows.append("dt").text(([name, , note]) => (note ? `${name}, ${note}` : name));
  rows.append("dd").text(([, value]) => value);
}

function change(before, after) {
  if (after === null) return [number(before), ""];
  const gone = before ? d3.format(".1%")((before - after) / before) : "0%";
  return [`${number(before)} \u2192 ${number(after)}`, `${gone} removed`];
}

showSummary();
showLists();
const graph = drawGraph(d3.select("#graph"), data.flow, data.groups, {onGroup: chooseGroup, onLayer: pickLayer});
d3.select("#zoom-in").on("click", () => graph.zoomBy(1.4));
d3.select("#zoom-out").on("click", () => graph.zoomBy(1 / 1.4));
d3.select("#zoom-fit").on("click", graph.fit);
listenToQuestions();
clear();
requestAnimationFrame(() => requestAnimationFrame(() => {
  window.prunusReady = performance.now();
  document.documentElement.dataset.ready = "";
}));
