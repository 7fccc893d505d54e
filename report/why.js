"use strict";
// Answers `why` over the page's data, as engine/explaining/why.py does: the same words, the same path.

// `book` is the page's data with its numbers made into objects that know one another.
function openBook(data) {
  const {texts, sets} = data;
  const places = new Map();
  const placeAt = (value, axis) => {
    const key = `${value} ${axis}`;
    if (!places.has(key)) places.set(key, {value, groups: sets[data.axes[value][axis]], couplings: []});
    return places.get(key);
  };
  const calls = data.calls.map(([operation, rule, ruleAt, source, text, module, inputs, results]) => ({
    hop: {operation: texts[operation], rule: texts[rule], rule_at: texts[ruleAt], source: texts[source],
      text: texts[text], module: texts[module]},
    inputs, results, factors: [],
  }));
  const factorOf = (reading) => ([call, factor, layout, ...flat]) => {
    const found = {
      reading, call: calls[call], factor: texts[factor], layout: layout < 0 ? null : sets[layout], places: [],
    };
    for (let at = 0; at < flat.length; at += 2) found.places.push(placeAt(flat[at], flat[at + 1]));
    calls[call].factors.push(found);
    return found;
  };
  for (const coupling of data.couplings.map(factorOf(false))) {
    for (const place of new Set(coupling.places)) place.couplings.push(coupling);
  }
  data.readings.forEach(factorOf(true));
  const members = new Map();
  for (const [name, value, axes] of data.tensors) {
    members.set(name, axes.map((held, axis) => ({
      name: `${name}[${axis}]`, tensor: name, value, place: placeAt(value, axis),
      groups: held.map(([group]) => data.groups[group]),
      spreads: new Map(held.map(([group, spread]) => [data.groups[group], data.spreads[spread]])),
    })));
  }
  return {data, calls, members, fromInput: new Set(data.from_input)};
}

function why(book, a, b = "") {
  const ours = membersOf(book, a);
  if (!b) return explainOne(book, a, ours);
  const theirs = membersOf(book, b);
  const shared = sharedGroups(ours, theirs);
  return shared.length ? explainCoupled(book, a, b, shared) : explainApart(book, [a, ours], [b, theirs]);
}

// The tensor axes that a layer, a parameter or `parameter[axis]` stands for; throws for a name there is not.
function membersOf(book, name) {
  const axis = /^(.*)\[(\d+)\]$/s.exec(name);
  const tensor = axis ? axis[1] : name;
  const members = book.members.get(book.data.aliases[tensor] ?? tensor);
  const found = members
    ? members.filter((member, index) => !axis || index === Number(axis[2]))
    : tensorsIn(book, name).flatMap((one) => book.members.get(one));
  if (!found.length) throw new RangeError(`This model has no layer, parameter or axis ${name}.`);
  return found;
}

// The tensors of a module, also those that it shares and that have their first name elsewhere.
function tensorsIn(book, module) {
  const names = [...[...book.members.keys()].map((name) => [name, name]), ...Object.entries(book.data.aliases)];
  return [...new Set(names.filter(([name]) => name.startsWith(`${module}.`)).map(([, first]) => first))];
}

function ownerOf(member) {
  const [head, inside] = member.tensor.split(".parametrizations.");
  return inside === undefined ? head.slice(0, Math.max(head.lastIndexOf("."), 0)) : head;
}

function layerOf(member) {
  return member.tensor.slice(0, Math.max(member.tensor.lastIndexOf("."), 0)) || member.tensor;
}

function madeBy(group, members) {
  return members.some((member) => group.makers.includes(ownerOf(member)));
}

// The groups that both hold: free ones first, and of those the ones that both produce.
function sharedGroups(ours, theirs) {
  const held = new Map(), found = new Map();
  for (const member of theirs) for (const group of member.groups) if (!held.has(group)) held.set(group, member);
  for (const start of ours) {
    for (const group of start.groups) {
      if (held.has(group) && !found.has(group)) found.set(group, {group, start, end: held.get(group)});
    }
  }
  const makers = ({group}) => madeBy(group, ours) + madeBy(group, theirs);
  return d3.sort(found.values(), ({group}) => group.blocked != null, (one) => -makers(one));
}

// The axes and factor instances through which a group passes.
function couplingsOf(group) {
  const {index} = group;
  return (node) => (node.places
    ? node.places.filter((place) => place.groups.includes(index))
    : node.couplings.filter((one) => one.layout === null || one.layout.includes(index)));
}

function explainCoupled(book, a, b, [{group, start, end}, ...more]) {
  const neighbours = couplingsOf(group);
  const path = shortest(neighbours, [start.place], (node) => node === end.place);
  const steps = path.filter((node) => node.places);
  const own = [start.value, end.value];
  const apart = (coupling) => !coupling.places.some((place) => own.includes(place.value));
  const cuts = steps.some(apart)
    ? cutPoints(neighbours, path, (node) => node.call ?? node).filter((node) => node.places && apart(node))
    : null;
  const relation = relate(start.spreads.get(group), end.spreads.get(group));
  const verb = start === end ? `are both ${start.name}` : "are coupled";
  const what = `group ${group.name}, ${group.size} slots`;
  return {
    kind: "coupled",
    headline: `${a} and ${b} ${verb}: ${what}, ${group.layers.length} layers`,
    start: start.name, end: end.name, path: steps.map(hopOf), groups: [group],
    remarks: [
      relation,
      ...(steps.length ? [cutting(cuts && cuts.map(hopOf))] : []),
      ...more.map((one) => one.group).filter(isShared)
        .map(({name, size}) => `They also share group ${name}, ${size} slots.`),
      ...group.held,
    ],
  };
}

function hopOf(coupling) {
  return {...coupling.call.hop, factor: coupling.factor};
}

const NAMED = 6;

function cutting(cuts) {
  if (cuts === null) return "Nothing but their own calls lies between them.";
  if (!cuts.length) return "No single operation couples them: there are at least two separate ways.";
  return `Cutting ${cuts.length > 1 ? "any one of: " : ""}${listing(callNames(cuts))} would separate them.`;
}

// Calls by operation and module, and by line where that is not enough.
function callNames(hops) {
  const same = d3.rollup(hops, (group) => group.length, (hop) => hop.operation, (hop) => hop.module);
  return hops.map(({operation, module, source}) => {
    const line = module && same.get(operation).get(module) === 1 ? "" : source.slice(source.lastIndexOf("/") + 1);
    return `${operation} (${[module, line].filter(Boolean).join(", ")})`;
  });
}

function listing(names) {
  const left = names.length - NAMED;
  return names.slice(0, NAMED).join(", ") + (left > 0 ? ` and ${number(left)} more` : "");
}

// How the indices of two axes belong together: engine/axes/formula.py.
function relate(one, other) {
  const range = (first, last) => (one.whole ? "" : `, for i from ${first} to ${last}`);
  if (one.each > 1 && one.runs !== other.runs && one.inverse !== null && other.single) {
    const target = other.start ? `${other.start} + ${one.inverse}` : one.inverse;
    const last = one.start + one.each * one.slots - 1;
    return `slot i of the one goes with slot ${target} of the other${range(one.start, last)}.`;
  }
  const many = one.each > 1, same = one.runs === other.runs;
  const verb = same ? (many ? "are" : "is") : (many ? "go with" : "goes with");
  const target = `slot${other.each > 1 ? "s" : ""} ${other.text} of the other`;
  return `slot${many ? "s" : ""} ${one.text} of the one ${verb} ${target}${range(0, one.slots - 1)}.`;
}

const VERDICTS = {
  free: "can be pruned", follows: "follows the layers that it reads from", held: "cannot be pruned",
};

function explainOne(book, a, ours) {
  const held = groupsAmong(ours);
  const free = [...held.keys()].filter((group) => group.blocked == null);
  const kind = free.some((group) => madeBy(group, ours)) ? "free" : free.length ? "follows" : "held";
  const remarks = axesLines([...held].map(([group, members]) => ({group, members, all: ours, details: group.held})));
  return {kind, headline: `${a} ${VERDICTS[kind]}`, start: "", end: "", path: [], groups: [...held.keys()], remarks};
}

function groupsAmong(members) {
  const held = new Map();
  for (const member of members) {
    for (const group of member.groups) held.set(group, [...(held.get(group) ?? []), member]);
  }
  return held;
}

// Whether anything else may hold these slots: the extent of a kernel is one tensor's alone.
function isShared(group) {
  return group.axes.length > 1 || group.producers.length > 0;
}

// A line for each group with its details below it; axes that nothing is coupled with come last, alike ones together.
function axesLines(entries) {
  const alone = ({group, members}) => group.blocked != null && members.length === 1 && members[0].name === group.name;
  const lines = entries.filter((one) => !alone(one)).flatMap(({group, members, all, details}) => {
    const role = madeBy(group, all) ? "made here" : "read here";
    const names = listing(members.map((member) => member.name));
    return [`${names}: group ${group.name}, ${group.size} slots, ${role}`, ...details.map((line) => `  ${line}`)];
  });
  const alike = d3.group(entries.filter(alone), ({group}) => group.held.join("\n"));
  const names = (some) => listing(some.map(({members}) => members[0].name));
  return [...lines, ...[...alike].map(([text, some]) => `${names(some)}: ${text}`)];
}
