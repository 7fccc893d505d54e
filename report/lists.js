"use strict";
// The lists: groups, blocked axes, operations without a rule.

const dot = {group: (group) => group.index, groups: data.groups};

const GROUP_COLUMNS = [
  {title: "group", kind: "name", cell: (group) => group.name, show: (group) => endOf(group.name), dot},
  {title: "kind", cell: (group) => group.kind},
  {title: "slots", kind: "number", cell: slotsOf, sort: (group) => group.size},
  {
    title: "layers", cell: ({layers}) => layers.join(", "), show: ({layers}) => firstOf(layers),
    sort: ({layers}) => layers.length,
  },
  {title: "exact", cell: (group) => (group.inexact == null ? "yes" : `no: ${group.inexact}`)},
];
const TIE = {title: "tie", kind: "number", cell: (group) => group.tie ?? "", sort: (group) => group.tie ?? Infinity};
const BLOCKED = {title: "blocked", cell: (group) => group.blocked ?? ""};
const BLOCKED_COLUMNS = [
  {title: "axes", kind: "name", cell: ({axes}) => axes.join(", "), show: ({axes}) => firstOf(axes, 40), dot},
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
  const first = items.filter((call) => call.stub !== null);  // of the calls of one operation
  first.append("p").text("A rule to start from: ").append("button").attr("type", "button").text("Copy")
    .on("click", (event, call) => copy(event.currentTarget, call.stub));
  first.append("pre").text((call) => call.stub);
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
  showList(current);
}

let current = lists[0];

function showList(list) {
  current = list;
  d3.selectAll("[role=tab]").attr("aria-selected", (one) => String(one === list));
  d3.selectAll("[role=tabpanel]").property("hidden", (one) => one !== list);
  search();
}

function search() {
  const {items, rows} = current;
  const shown = filterBy(items, document.getElementById("search").value);
  document.getElementById("count").textContent = `${number(shown)} of ${number(rows.length)}`;
}

