"use strict";
// The page: its lists, its questions and its graph, and how a choice in one shows in the others.

const data = JSON.parse(document.getElementById("data").textContent);

completeGroups(data.groups);
data.ties.forEach((tied, number) => { for (const index of tied) data.groups[index].tie = number + 1; });

// Gives each group its number, its makers and a hue: steps of the golden angle, by which neighbours differ
// most, but for the largest group, which has a range for itself.
function completeGroups(groups) {
  const largest = d3.maxIndex(groups, (group) => (group.blocked == null ? group.axes.length : 0));
  groups.forEach((group, index) => {
    group.index = index;
    group.held = data.held[index];
    group.makers = group.producers.map((name) => name.slice(0, Math.max(name.lastIndexOf("."), 0)));
    group.hue = index === largest ? 225 : Math.round(260 + (index * 137.508) % 290) % 360;
  });
}

const number = d3.format(",");

function slotsOf(group) {
  return group.after === group.size ? number(group.size) : `${number(group.size)} \u2192 ${number(group.after)}`;
}

function some(names, shown = 2) {
  const more = names.length - shown;
  return names.slice(0, shown).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

// The end of a name that is too long for a table: the parts that differ.
function endOf(name, letters = 36) {
  return name.length > letters ? `\u2026${name.slice(1 - letters)}` : name;
}

// -- summary --

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

// -- lists --

const GROUP_COLUMNS = [
  {title: "group", kind: "name", cell: (group) => group.name, show: (group) => endOf(group.name), dot: {group: (group) => group.index, groups: data.groups}},
  {title: "kind", cell: (group) => group.kind},
  {title: "slots", kind: "number", cell: slotsOf, sort: (group) => group.size},
  {title: "layers", cell: (group) => some(group.layers), sort: (group) => group.layers.length},
  {title: "exact", cell: (group) => (group.inexact == null ? "yes" : `no: ${group.inexact}`)},
];
const TIE = {title: "tie", kind: "number", cell: (group) => group.tie ?? "", sort: (group) => group.tie ?? Infinity};
const BLOCKED = {title: "blocked", cell: (group) => group.blocked ?? ""};
const BLOCKED_COLUMNS = [
  {title: "axes", kind: "name", cell: (group) => some(group.axes), dot: GROUP_COLUMNS[0].dot},
  {title: "slots", kind: "number", cell: slotsOf, sort: (group) => group.size},
  {title: "reason", cell: (group) => group.blocked},
];

const lists = [
  {
    name: "Groups",
    rows: data.groups.filter((group) => group.blocked == null || group.producers.length),
    draw: (panel, rows) => makeTable(panel, groupColumns(rows), rows, (group) => chooseGroup(group.index)),
  },
  {
    name: "Blocked",
    rows: data.groups.filter((group) => group.blocked != null),
    draw: (panel, rows) => makeTable(panel, BLOCKED_COLUMNS, rows, (group) => chooseGroup(group.index)),
  },
  {name: "Without a rule", rows: data.unknown, draw: drawUnknown},
];

function groupColumns(rows) {
  const tied = rows.some((group) => group.tie), held = rows.some((group) => group.blocked != null);
  return [...GROUP_COLUMNS, ...(tied ? [TIE] : []), ...(held ? [BLOCKED] : [])];
}

function drawUnknown(panel, rows) {
  if (!rows.length) panel.append("p").attr("class", "nothing").text("Every operation of this model has a rule.");
  const items = panel.selectAll("article").data(rows).join("article").attr("class", "unknown");
  items.append("p").append("strong").text((call) => call.reason);
  items.append("p").attr("class", "soft").text((call) => call.source);
  items.append("p").text((call) => (call.costs.length ? `It holds ${call.costs.join(", ")}.` : "It holds nothing."));
  items.append("p").text("A rule to start from: ").append("button").attr("type", "button").text("Copy")
    .on("click", (event, call) => copy(event.currentTarget, call.stub));
  items.append("pre").text((call) => call.stub);
  return items;
}

async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {  // no clipboard for this page: leave the text selected instead
    getSelection().selectAllChildren(button.closest("article").querySelector("pre"));
    button.textContent = "Selected";
  }
}

function showLists() {
  const panels = d3.select("#panels").selectAll("div").data(lists).join("div")
    .attr("role", "tabpanel").attr("id", (list, index) => `panel-${index}`)
    .attr("aria-labelledby", (list, index) => `tab-${index}`).attr("tabindex", -1);
  panels.each(function draw(list) { list.items = list.draw(d3.select(this), list.rows); });
  d3.select("#tabs").selectAll("button").data(lists).join("button")
    .attr("type", "button").attr("role", "tab").attr("id", (list, index) => `tab-${index}`)
    .attr("aria-controls", (list, index) => `panel-${index}`)
    .text((list) => `${list.name} (${number(list.rows.length)})`)
    .on("click", (event, list) => showList(list));
  d3.select("#search").on("input", search);
  showList(lists[0]);
}

function showList(list) {
  lists.current = list;
  d3.selectAll("[role=tab]").attr("aria-selected", (one) => String(one === list));
  d3.selectAll("[role=tabpanel]").property("hidden", (one) => one !== list);
  search();
}

function search() {
  const {items, rows} = lists.current;
  const shown = filterBy(items, document.getElementById("search").value);
  document.getElementById("count").textContent = `${number(shown)} of ${number(rows.length)}`;
}

// -- questions --

const book = openBook(data);
const inputs = {a: document.getElementById("a"), b: document.getElementById("b")};

function ask(a, b = "") {
  inputs.a.value = a;
  inputs.b.value = b;
  for (const input of Object.values(inputs)) input.removeAttribute("aria-invalid");
  if (!a) return clear();
  try {
    const answer = why(book, a, b);
    showAnswer(answer);
    mark(answer.kind === "coupled" ? answer.groups : b ? [] : mainGroups(answer, a), [...layersOf(a), ...layersOf(b)]);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    const wrong = isKnown(a) ? inputs.b : inputs.a;
    wrong.setAttribute("aria-invalid", "true");
    showAnswer({headline: error.message, path: [], groups: [], remarks: []});
  }
}

function layersOf(name) {
  return name ? [name, ...membersOf(book, name).map(layerOf)] : [];
}

// Of one layer, what it makes; where it makes nothing, what it reads.
function mainGroups({groups}, name) {
  const made = groups.filter((group) => madeBy(group, membersOf(book, name)));
  const free = groups.filter((group) => group.blocked == null);
  return made.length ? made : free.length ? free : groups;
}

function isKnown(name) {
  try { return membersOf(book, name).length > 0; } catch { return false; }
}

// The first layer that is clicked is asked about, the second with it.
function pickLayer(node) {
  const {a, b} = {a: inputs.a.value, b: inputs.b.value};
  if (a && !b && a !== node.name && isKnown(a)) ask(a, node.name); else ask(node.name);
}

function chooseGroup(index) {
  const group = data.groups[index];
  inputs.a.value = inputs.b.value = "";
  mark([group], []);
  showAnswer({
    headline: `group ${group.name}: ${slotsOf(group)} slots, kind ${group.kind}`,
    path: [], groups: [],
    remarks: [
      group.blocked == null ? (group.inexact == null ? "exact: removing slots is the same as zeroing them" : "") : "",
      ...group.held,
      group.producers.length ? `made by ${group.producers.join(", ")}` : "",
      `held by ${number(group.axes.length)} axes:`,
    ].filter(Boolean),
    names: group.axes,
  });
}

function clear() {
  inputs.a.value = inputs.b.value = "";
  mark([], []);
  showAnswer({
    headline: "What shrinks together, and why", path: [], groups: [],
    remarks: [
      "Choose a group in the table or a line in the graph to see where it is.",
      "Click a layer to see what holds it, and a second one to see why the two shrink together or do not.",
      "Or type the names of layers, parameters (conv1.weight) or axes (conv1.weight[0]) above.",
    ],
  });
}

function mark(groups, layers) {
  graph.mark(groups.map((group) => group.index), layers);
  const chosen = new Set(groups);
  const rows = d3.selectAll("#panels tbody tr").attr("aria-selected", (group) => String(chosen.has(group)));
  const [first] = rows.filter((group) => chosen.has(group)).nodes().filter((row) => row.offsetParent);
  first?.scrollIntoView({block: "nearest"});
}

function showAnswer({headline, start, end, path, groups, remarks, names = []}) {
  const panel = d3.select("#answer").text("").property("scrollTop", 0);
  panel.append("h2").text(headline);
  if (start) showPath(panel, start, path, end, groups[0]);
  panel.append("div").selectAll("p").data(remarks).join("p").classed("inner", (line) => line.startsWith("  ")).text((line) => line.trim());
  links(panel, names, (name) => name, (name) => ask(name));
  links(panel, groups, (group) => `group ${group.name}`, (group) => chooseGroup(group.index));
}

// One line for each factor instance from axis to axis; the file's folder and the module are in its title.
function showPath(panel, start, path, end, group) {
  const box = panel.append("div").attr("class", "path").call(colour, () => group.index, data.groups);
  box.append("p").attr("class", "name").text(start);
  const rows = box.append("table").append("tbody").selectAll("tr").data(path).join("tr").attr("class", "hop")
    .attr("title", (hop) => `${hop.source}${hop.module ? `, in ${hop.module}` : ""}\n${hop.text}`);
  const file = ({source}) => source.slice(source.lastIndexOf("/") + 1);
  for (const cell of [
    (hop) => hop.operation, (hop) => hop.factor, (hop) => `${hop.rule} ${hop.rule_at}`, file, (hop) => hop.text,
  ]) rows.append("td").text(cell);
  box.append("p").attr("class", "name").text(end);
}

function links(panel, items, text, onClick) {
  panel.append("div").attr("class", "links").selectAll("button").data(items).join("button")
    .attr("type", "button").attr("class", "link").text(text).on("click", (event, item) => onClick(item));
}

function listenToQuestions() {
  const form = document.getElementById("ask");
  const submit = () => ask(inputs.a.value.trim(), inputs.b.value.trim());
  form.addEventListener("submit", (event) => { event.preventDefault(); submit(); });
  form.addEventListener("change", submit);
  form.addEventListener("reset", (event) => { event.preventDefault(); clear(); });
  form.addEventListener("input", ({target}) => { if (names().has(target.value)) submit(); });
  form.addEventListener("focusin", offerNames, {once: true});
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") clear(); });
}

let known = null;

// Every layer, parameter and axis; gathered when first needed, as there can be very many.
function names() {
  const members = [...book.members.values()].flat();
  return (known ??= new Set([...members.map(layerOf), ...book.members.keys(), ...members.map((one) => one.name)]));
}

function offerNames() {
  d3.select("#names").selectAll("option").data([...names()]).join("option").attr("value", (name) => name);
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
