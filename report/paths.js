"use strict";
// Shortest ways and cut points in graphs that are given by the neighbours of their nodes: engine/grouping/paths.py.

function shortest(neighbours, starts, isEnd) {
  const cameFrom = new Map(starts.map((node) => [node, null]));
  let node = starts.find(isEnd) ?? null;
  const queue = [...cameFrom.keys()];
  for (let at = 0; node === null && at < queue.length; at++) {
    for (const other of neighbours(queue[at])) {
      if (cameFrom.has(other)) continue;
      cameFrom.set(other, queue[at]);
      queue.push(other);
      if (isEnd(other)) { node = other; break; }
    }
  }
  const way = [];
  for (; node !== null; node = cameFrom.get(node)) way.push(node);
  return way.reverse();
}

// The nodes inside `way`, a shortest one, that each by itself hold its two ends together; nodes of the same
// unit are taken out together. What can be reached beside the way shows up to where there is a detour; where
// that is of the unit of a later node, it is tried whether there is another way.
function cutPoints(neighbours, way, unit) {
  const order = new Map();
  way.forEach((node, index) => { if (!order.has(unit(node))) order.set(unit(node), index); });
  const found = [], waiting = new Map(), seen = new Set();
  let farthest = 0, doubtful = 0;
  for (let index = 0; index < way.length - 1; index++) {
    const here = unit(way[index]);
    const isCut = order.get(here) === index && index === farthest && index > 0;
    if (isCut && (index >= doubtful || !isWay(neighbours, way, (node) => unit(node) !== here))) found.push(way[index]);
    const todo = [way[index], ...(waiting.get(here) ?? [])];
    waiting.delete(here);
    while (todo.length) {
      const node = todo.pop();
      if (seen.has(node)) continue;
      seen.add(node);
      for (const other of neighbours(node)) {
        const position = order.get(unit(other)) ?? index;
        if (position > index) {
          if (other === way[position]) farthest = Math.max(farthest, position);
          else doubtful = Math.max(doubtful, position);
          if (!waiting.has(unit(other))) waiting.set(unit(other), []);
          waiting.get(unit(other)).push(other);
        } else if (!seen.has(other)) {
          todo.push(other);
        }
      }
    }
  }
  return found;
}

// Whether the ends of `way` are connected through nodes that stay.
function isWay(neighbours, way, stays) {
  const lasts = new Set(neighbours(way.at(-1)));
  return shortest((node) => neighbours(node).filter(stays), [way[0]], (node) => lasts.has(node)).length > 0;
}
