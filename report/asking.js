"use strict";
// The questions: what is asked, by typing or by clicking, and how the answer is shown.

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
    const lit = answer.kind === "coupled" ? answer.groups : b ? [] : mainGroups(answer, a);
    mark(lit, [...layersOf(a), ...layersOf(b)]);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    const wrong = isKnown(a) ? inputs.b : inputs.a;
    wrong.setAttribute("aria-invalid", "true");
    showAnswer({headline: error.message, path: [], groups: [], remarks: []});
  }
}

// The nodes that a name stands for.
function layersOf(name) {
  return name ? [name, ...membersOf(book, name).map((member) => ownerOf(member) || member.tensor)] : [];
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

const AXES_SHOWN = 200;

function chooseGroup(index) {
  const group = data.groups[index], {axes, producers} = group;
  const first = axes.length > AXES_SHOWN ? `, the first ${AXES_SHOWN} of which are` : "";
  inputs.a.value = inputs.b.value = "";
  mark([group], []);
  showAnswer({
    headline: `group ${group.name}: ${slotsOf(group)} slots, kind ${group.kind}`,
    path: [], groups: [], names: axes.slice(0, AXES_SHOWN),
    remarks: [
      group.blocked == null && group.inexact == null ? "exact: removing slots is the same as zeroing them" : "",
      ...group.held,
      producers.length ? `made by ${producers.join(", ")}` : "",
      `held by ${number(axes.length)} axes${first}:`,
    ].filter(Boolean),
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
  panel.append("div").selectAll("p").data(remarks).join("p")
    .classed("inner", (line) => line.startsWith("  ")).text((line) => line.trim());
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

