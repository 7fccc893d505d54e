"use strict";
// The page's data, and how groups and their names are written.

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

// The first of some names and how many more there are; the first alone, shortened, says most.
function firstOf(names, letters = 15) {
  return endOf(names[0], letters) + (names.length > 1 ? ` +${number(names.length - 1)}` : "");
}

// The end of a name that is too long for a table: the parts that differ.
function endOf(name, letters = 36) {
  return name.length > letters ? `\u2026${name.slice(1 - letters)}` : name;
}
