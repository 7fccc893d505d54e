"use strict";
// Tables that sort by a click on a column's title, and a search that shows the rows that have all its words.

// `columns` are {title, cell(row) -> text, sort(row) -> key, kind}; `onRow` makes the rows buttons.
function makeTable(parent, columns, rows, onRow = null) {
  const table = parent.append("table");
  const heads = table.append("thead").append("tr").selectAll("th").data(columns).join("th").attr("scope", "col")
    .attr("class", (column) => (column.kind === "number" ? "number" : null));
  const body = table.append("tbody");
  const lines = body.selectAll("tr").data(rows).join("tr");
  for (const column of columns) {
    const cells = lines.append("td").attr("class", column.kind ?? null);
    if (column.dot) cells.append("span").attr("class", "dot").call(colour, column.dot.group, column.dot.groups);
    cells.append("span").text(column.show ?? column.cell)
      .attr("title", (row) => String(column.cell(row)).slice(0, 500));
  }
  lines.each(function keep(row) { this.searched = columns.map((one) => one.cell(row)).join(" ").toLowerCase(); });
  heads.append("button").attr("type", "button").text((column) => column.title)
    .on("click", (event, column) => sortBy(heads, lines, column));
  if (onRow) {
    lines.attr("tabindex", 0).attr("aria-selected", "false")
      .on("click", (event, row) => onRow(row))
      .on("keydown", (event, row) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); onRow(row); }
        if (event.key === "ArrowDown" || event.key === "ArrowUp") { event.preventDefault(); step(event); }
      });
  }
  return lines;
}

function sortBy(heads, lines, column) {
  const head = heads.filter((one) => one === column);
  const order = head.attr("aria-sort") === "ascending" ? "descending" : "ascending";
  heads.attr("aria-sort", null);
  head.attr("aria-sort", order);
  const key = column.sort ?? column.cell;
  const sign = order === "ascending" ? 1 : -1;
  lines.sort((one, other) => sign * compare(key(one), key(other)));
}

const natural = new Intl.Collator("en", {numeric: true});

function compare(one, other) {
  return typeof one === "number" ? one - other : natural.compare(one, other);
}

// Shows the elements whose text has every word of `text`; how many that are.
function filterBy(elements, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  elements.each(function show() {
    const all = (this.searched ??= this.textContent.toLowerCase());
    this.hidden = !words.every((word) => all.includes(word));
    shown += this.hidden ? 0 : 1;
  });
  return shown;
}

function step(event) {
  let row = event.currentTarget;
  do row = event.key === "ArrowDown" ? row.nextElementSibling : row.previousElementSibling; while (row?.hidden);
  row?.focus();
}
