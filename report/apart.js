"use strict";
// Why two are not coupled: where the slots of each end on the way to the other, and what is coupled instead,
// as engine/explaining/why_not.py says it.

const EQUATIONS = 3;

function explainApart(book, [a, ours], [b, theirs]) {
  const flow = flowOf(book);
  const way = wayBetween(flow, ours.map((member) => member.value), theirs.map((member) => member.value));
  const back = way.toReversed();
  const pairs = d3.cross(wide(ours).keys(), wide(theirs).keys());
  const tied = pairs.find(([one, other]) => one !== other && one.tie && one.tie === other.tie);
  const unknown = unknownToBoth(book, ours, theirs);
  const meeting = meetingOf(book, flow, way.length ? way : [ours[0].value], ours, theirs);
  return {
    kind: unknown ? "unknown" : tied ? "tied" : "apart",
    headline: unknown
      ? `${a} and ${b} may be coupled: ${unknown}, and it holds axes of both`
      : tied
      ? `${a} and ${b} share no slots, but are tied: they shrink by the same proportion`
      : `${a} and ${b} are not coupled: no axis of the one holds slots of the other`,
    start: "", end: "", path: [],
    groups: [...wide(ours).keys(), ...wide(theirs).keys()],
    remarks: [
      ...(tied ? tieLines(book.data.equations, tied) : []),
      ...(meeting ? [meeting] : []),
      ...axesLines([...sideOf(book, flow, a, ours, way), ...sideOf(book, flow, b, theirs, back)]),
    ],
  };
}

// Why nobody knows: a call that no rule explains holds axes of both, and may well couple them.
function unknownToBoth(book, ours, theirs) {
  const [held, other] = [ours, theirs].map((side) => new Set([...groupsAmong(side).keys()].map(({blocked}) => blocked)));
  return d3.min(book.data.unknown, ({reason}) => (held.has(reason) && other.has(reason) ? reason : undefined));
}

// The groups of these axes, without those that one tensor has alone where there are others.
function wide(members) {
  const held = groupsAmong(members);
  const found = new Map([...held].filter(([group]) => isShared(group)));
  return found.size ? found : held;
}

// The equations through which two groups are tied, in order from the one to the other.
function tieLines({ties, texts, atoms}, [one, other]) {
  const beside = new Map();
  for (const [from, to, equation] of [...ties, ...ties.map(([from, to, equation]) => [to, from, equation])]) {
    beside.set(from, [...(beside.get(from) ?? []), {to, equation}]);
  }
  const way = shortest(
    ({to}) => beside.get(to) ?? [],
    [{to: atoms[one.index], equation: null}], ({to}) => to === atoms[other.index],
  );
  const equations = [...new Set(way.slice(1).map(({equation}) => equation))].map((equation) => texts[equation]);
  const left = equations.length - EQUATIONS;
  return [
    `${one.name} (${one.size}) is tied with ${other.name} (${other.size})`,
    ...equations.slice(0, EQUATIONS), ...(left > 0 ? [`and ${left} more equations`] : []),
  ];
}

function sideOf(book, flow, name, members, way) {
  return [...wide(members)].map(([group, found]) => ({
    group, members: found, all: members,
    details: [
      ...[endOn(book, group, way), nearest(book, flow, group, name, found)].filter(Boolean),
      ...(group.blocked == null ? [] : group.held),
    ],
  }));
}

// The traced network: values (numbers) and calls, with what comes after each, and what is beside it.
function flowOf(book) {
  if (book.flow) return book.flow;
  const readers = new Map(), makers = new Map();
  for (const call of book.calls) {
    for (const value of call.results) if (!makers.has(value)) makers.set(value, call);
    for (const value of new Set(call.inputs)) {
      if (!readers.has(value)) readers.set(value, []);
      readers.get(value).push(call);
    }
  }
  const following = (node) => (node.factors ? node.results : readers.get(node) ?? []);
  const before = (node) => (node.factors ? node.inputs : makers.has(node) ? [makers.get(node)] : []);
  return (book.flow = {following, neighbours: (node) => [...before(node), ...following(node)]});
}

// A shortest way between values of the two, value, call, value, ...: with the data if it goes.
function wayBetween(flow, starts, ends) {
  const along = wayAlong(flow, starts, ends);
  if (along.length) return along;
  const back = wayAlong(flow, ends, starts);
  return back.length ? back.reverse() : shortest(flow.neighbours, starts, (node) => ends.includes(node));
}

function wayAlong(flow, starts, ends) {
  const readers = new Map(ends.flatMap((value) => flow.following(value).map((call) => [call, value])));
  const way = shortest(flow.following, starts, (node) => readers.has(node));
  return way.length ? [...way, readers.get(way.at(-1))] : [];
}

// The first call on the way behind which no axis holds the group, and the value behind it.
function lastOn(book, group, way) {
  for (let at = 1; at + 1 < way.length; at += 2) {
    const gone = !book.data.axes[way[at + 1]].some((set) => book.data.sets[set].includes(group.index));
    if (gone || way[at + 1] === way.at(-1)) return {call: way[at], following: way[at + 1]};
  }
  return null;
}

function endOn(book, group, way) {
  const last = lastOn(book, group, way);
  return last ? `${howItEnds(book, last, group)}: ${lineOf(last.call)}` : "";
}

function howItEnds(book, {call, following}, group) {
  for (const {factor, values} of factorsWith(call, group)) {
    const results = call.results.filter((value) => values.has(value));
    if (!results.length) return `\`${factor}\` is summed here`;
    const read = [...values].some((value) => !results.includes(value) && book.fromInput.has(value));
    if (!call.results.includes(following) && !read) return `\`${factor}\` is a new axis here`;
  }
  return "these slots do not go that way";
}

// The factors of a call through which a group passes, with the values that hold it.
function factorsWith(call, group) {
  const holds = (place) => place.groups.includes(group.index);
  return call.factors
    .filter(({layout}) => layout === null || layout.includes(group.index))
    .map((one) => ({...one, values: new Set(one.places.filter(holds).map((place) => place.value))}))
    .filter(({values}) => values.size);
}

function lineOf({hop: {operation, module, source, text}}) {
  return source ? `${operation}${module ? ` in ${module}` : ""}, ${source}: ${text}` : operation;
}

// The layer with slots of the group that is fewest calls away.
function nearest(book, flow, group, name, members) {
  const own = new Set(members.map(layerOf)), others = new Map();
  for (const axis of group.axes) {
    const [member] = membersOf(book, axis);
    if (!own.has(layerOf(member)) && !member.tensor.startsWith(`${name}.`)) others.set(member.value, layerOf(member));
  }
  const way = shortest(flow.neighbours, members.map((member) => member.value), (node) => others.has(node));
  if (!way.length) return "";
  const calls = Math.max(Math.floor(way.length / 2) - 1, 0);
  const far = calls === 0 ? "in the same call" : `${calls} call${calls === 1 ? "" : "s"} away`;
  return `nearest coupled: ${others.get(way.at(-1))}, ${far}`;
}

// A call that has slots of both: where the one ends or the other on the way, or else behind both.
function meetingOf(book, flow, way, ours, theirs) {
  const sides = [wide(ours), wide(theirs)], back = way.toReversed();
  const pairs = d3.cross(sides[0].keys(), sides[1].keys());
  const ends = [
    ...[...sides[0].keys()].map((group) => lastOn(book, group, way)),
    ...[...sides[1].keys()].map((group) => lastOn(book, group, back)),
  ].filter(Boolean).map((last) => last.call);
  for (const call of new Set(ends.length ? ends : flow.neighbours(way[0]))) {
    for (const pair of pairs) {
      const meeting = meetingIn(call, pair);
      if (meeting) return meeting;
    }
  }
  for (const pair of pairs) {
    const call = callBehind(book, pair);
    if (call) return meetingIn(call, pair);
  }
  return "";
}

function meetingIn(call, [one, other]) {
  const [first, second] = [factorsWith(call, one)[0]?.factor, factorsWith(call, other)[0]?.factor];
  if (!first || !second) return "";
  const what = first === second
    ? `as different parts of \`${first}\``
    : `as \`${first}\` of the one and \`${second}\` of the other`;
  return `They meet in one call, ${what}: ${lineOf(call)}`;
}

// The call nearest to the group with fewer axes through which slots of both pass.
function callBehind(book, pair) {
  const [few, many] = d3.sort(pair, (group) => group.axes.length);
  const both = (node) => node.places && factorsWith(node.call, many).some(({reading}) => !reading);
  const [start] = membersOf(book, few.axes[0]);
  return shortest(couplingsOf(few), [start.place], both).at(-1)?.call;
}
