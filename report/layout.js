"use strict";
// Where the nodes of the graph go: dagre puts them in rows, and the rows are broken into columns as text is,
// so that even a deep network fills the panel. What skips over rows (a residual stream, a dense connection)
// runs beside its column.

const PART = 40, NODE_HEIGHT = 22, ROW_GAP = 12, NODE_GAP = 12, LANE = 6, MARGIN = 20, LETTER = 7.25, LETTERS = 22;

// The nodes with x, y, width, height, the edges with points, and the size of the whole, for a panel of that size.
function layOut(flow, panel) {
  const nodes = flow.nodes.map((node) => {
    const label = shortened(node.label);
    return {...node, label, width: label.length * LETTER + 14, height: NODE_HEIGHT};
  });
  const edges = flow.edges.map((edge) => ({...edge}));
  if (!nodes.length) return {nodes, edges, width: 1, height: 1};
  const depth = depthsOf(nodes.length, edges);
  markSkips(depth, edges);
  stackParts(partsOf(depth, edges), nodes, edges);
  return intoColumns(nodes, edges, panel);
}

// The last parts of a dotted name, as many as fit.
function shortened(name) {
  const parts = name.split(".");
  while (parts.length > 1 && parts.join(".").length > LETTERS) parts.shift();
  const text = parts.join(".");
  return text.length > LETTERS ? `${text.slice(0, LETTERS - 1)}\u2026` : text;
}

// The length of the longest way to each node; 0 in a cycle, which a layer that is used twice makes.
function depthsOf(count, edges) {
  const next = nextOf(count, edges), before = new Array(count).fill(0), depth = new Array(count).fill(0);
  for (const edge of edges) before[edge.to] += 1;
  const ready = d3.range(count).filter((node) => before[node] === 0);
  while (ready.length) {
    const node = ready.pop();
    for (const to of next[node]) {
      depth[to] = Math.max(depth[to], depth[node] + 1);
      if (--before[to] === 0) ready.push(to);
    }
  }
  return depth;
}

function nextOf(count, edges) {
  const next = Array.from({length: count}, () => []);
  for (const edge of edges) next[edge.from].push(edge.to);
  return next;
}

// An edge skips if another way leads from its start to its end.
function markSkips(depth, edges) {
  const next = nextOf(depth.length, edges);
  for (const edge of edges) edge.skips = depth[edge.to] - depth[edge.from] > 1 && hasDetour(edge, next, depth);
}

function hasDetour(edge, next, depth) {
  const seen = new Set(), waiting = next[edge.from].filter((node) => node !== edge.to);
  while (waiting.length) {
    const node = waiting.pop();
    if (node === edge.to) return true;
    if (seen.has(node) || depth[node] >= depth[edge.to]) continue;
    seen.add(node);
    waiting.push(...next[node]);
  }
  return false;
}

// For each node the part of the network that it is in: parts are some rows deep, and meet where few edges pass.
// dagre gets one part at a time, since it is neither quick nor safe with thousands of rows.
function partsOf(depth, edges) {
  const crossing = new Array(d3.max(depth, (one) => one + 2) ?? 1).fill(0);
  for (const {from, to, skips} of edges) {
    if (!skips) for (let row = depth[from] + 1; row <= depth[to]; row++) crossing[row] += 1;
  }
  const starts = [0];
  for (let last = 0; last + 1.5 * PART < crossing.length; last = starts.at(-1)) {
    starts.push(d3.least(d3.range(last + PART / 2, last + PART * 1.5), (row) => crossing[row]));
  }
  return depth.map((row) => d3.bisectRight(starts, row) - 1);
}

// The parts one below the other, each moved to where the edges into it come from.
function stackParts(parts, nodes, edges) {
  let y = 0;
  for (let part = 0; part <= d3.max(parts); part++) {
    const members = d3.range(nodes.length).filter((node) => parts[node] === part);
    const inside = edges.filter((edge) => !edge.skips && parts[edge.from] === part && parts[edge.to] === part);
    const height = rankWithDagre(members, nodes, inside);
    const entering = edges.filter((edge) => !edge.skips && parts[edge.to] === part && parts[edge.from] < part);
    const dx = d3.mean(entering, ({from, to}) => nodes[from].x - nodes[to].x) ?? 0;
    for (const node of members) { nodes[node].x += dx; nodes[node].y += y; }
    for (const edge of inside) edge.points = edge.points.map((point) => ({x: point.x + dx, y: point.y + y}));
    y += height + ROW_GAP;
  }
  for (const edge of edges) {
    if (edge.skips || edge.points) continue;
    const [from, to] = [nodes[edge.from], nodes[edge.to]];
    edge.skips = Math.abs(to.y - from.y) > 2 * (NODE_HEIGHT + ROW_GAP);
    edge.points = [{x: from.x, y: from.y + NODE_HEIGHT / 2}, {x: to.x, y: to.y - NODE_HEIGHT / 2}];
  }
}

// Gives places to some nodes, and points to the edges between them; returns how high it all is.
function rankWithDagre(members, nodes, edges) {
  const graph = new dagre.graphlib.Graph();
  graph.setGraph({nodesep: NODE_GAP, ranksep: ROW_GAP, edgesep: 8});
  graph.setDefaultEdgeLabel(() => ({}));
  for (const node of members) graph.setNode(String(node), {width: nodes[node].width, height: nodes[node].height});
  for (const edge of edges) graph.setEdge(String(edge.from), String(edge.to));
  dagre.layout(graph);
  for (const node of members) Object.assign(nodes[node], graph.node(String(node)));
  for (const edge of edges) edge.points = graph.edge(String(edge.from), String(edge.to)).points;
  return graph.graph().height;
}

// Break the rows into as many columns as make the whole largest in the panel.
function intoColumns(nodes, edges, panel) {
  const rows = d3.sort(new Set(nodes.map((node) => node.y)));
  const scale = (count) => {
    const {width, height} = columnsOf(rows, nodes, edges, count);
    return Math.min(panel.width / width, panel.height / height);
  };
  const best = d3.greatest(d3.range(1, Math.min(rows.length, 60) + 1), scale);
  return placed(columnsOf(rows, nodes, edges, best), nodes, edges);
}

// `count` columns of about as many rows each, with as few edges as may be from one to the next.
function columnsOf(rows, nodes, edges, count) {
  const row = new Map(rows.map((y, index) => [y, index]));
  const each = rows.length / count, starts = [0];
  const crossing = new Array(rows.length + 1).fill(0);
  for (const edge of edges) {
    const [first, last] = d3.extent([row.get(nodes[edge.from].y), row.get(nodes[edge.to].y)]);
    crossing[first + 1] += 1;
    crossing[last + 1] -= 1;
  }
  for (let index = 1; index < crossing.length; index++) crossing[index] += crossing[index - 1];
  for (let column = 1; column < count; column++) {
    const wanted = Math.round(column * each), slack = Math.floor(each * 0.12);
    const near = d3.range(Math.max(wanted - slack, d3.max(starts) + 1), Math.min(wanted + slack, rows.length - 1) + 1);
    starts.push(near.length ? d3.least(near, (at) => [crossing[at] * 100 + Math.abs(at - wanted)]) : wanted);
  }
  const columnOfRow = new Map(rows.map((y, index) => [y, d3.bisectRight(starts, index) - 1]));
  const columns = starts.map(() => ({left: Infinity, right: -Infinity, top: Infinity, bottom: -Infinity, lanes: 0}));
  for (const node of nodes) {
    const column = columns[columnOfRow.get(node.y)];
    column.left = Math.min(column.left, node.x - node.width / 2);
    column.right = Math.max(column.right, node.x + node.width / 2);
    column.top = Math.min(column.top, node.y - node.height / 2);
    column.bottom = Math.max(column.bottom, node.y + node.height / 2);
  }
  for (const edge of edges) {
    edge.column = columnOfRow.get(nodes[edge.from].y);
    edge.target = columnOfRow.get(nodes[edge.to].y);
    edge.jumps = edge.target !== edge.column;
    if (edge.jumps || edge.skips) continue;
    const column = columns[edge.column];
    column.left = Math.min(column.left, d3.min(edge.points, (point) => point.x));
    column.right = Math.max(column.right, d3.max(edge.points, (point) => point.x));
  }
  giveLanes(columns, nodes, edges);
  let x = 0;
  for (const column of columns) {
    column.x = x;
    x += column.right - column.left + (column.lanes + 3) * LANE;
  }
  const height = d3.max(columns, (column) => column.bottom - column.top) + 2 * MARGIN;
  return {columns, columnOfRow, width: x, height};
}

// Edges that run beside a column share a lane with those of the same start, and no other as long as they run.
function giveLanes(columns, nodes, edges) {
  const beside = d3.group(edges.filter((edge) => edge.skips || edge.jumps), (edge) => edge.column, (edge) => edge.from);
  for (const [index, starts] of beside) {
    const ends = [];
    for (const [from, bundle] of d3.sort(starts, ([from]) => nodes[from].y)) {
      const last = d3.max(bundle, (edge) => (edge.jumps ? Infinity : nodes[edge.to].y));
      const first = bundle.some((edge) => edge.jumps) ? -Infinity : nodes[from].y;
      let lane = ends.findIndex((end) => end <= first);
      if (lane < 0) lane = ends.push(0) - 1;
      ends[lane] = last;
      for (const edge of bundle) edge.lane = lane;
    }
    columns[index].lanes = ends.length;
  }
}

function placed({columns, columnOfRow, width, height}, nodes, edges) {
  const shiftOf = (node) => {
    const column = columns[columnOfRow.get(node.y)];
    return [column.x - column.left, MARGIN - column.top];
  };
  const shifts = nodes.map(shiftOf);
  for (const edge of edges) {
    const [dx, dy] = shifts[edge.from];
    if (edge.points) edge.points = edge.points.map(({x, y}) => [x + dx, y + dy]);
  }
  nodes.forEach((node, index) => { node.x += shifts[index][0]; node.y += shifts[index][1]; });
  for (const edge of edges) {
    edge.path = edge.skips || edge.jumps
      ? besidePath(nodes[edge.from], nodes[edge.to], edge, columns, height)
      : downPath(edge.points);
  }
  return {nodes, edges, width, height};
}

const downPath = d3.line().curve(d3.curveMonotoneY);

// Beside the column along its lane: in the same column from right side to right side; into the next column out
// of the last row by its bottom, into the first by its top; into one further on below those between.
function besidePath(from, to, edge, columns, height) {
  const column = columns[edge.column], target = columns[edge.target];
  const lane = column.x + column.right - column.left + (edge.lane + 1.5) * LANE;
  if (!edge.jumps) {
    const right = (node) => node.x + node.width / 2;
    return rounded([[right(from), from.y + 4], [lane, from.y + 4], [lane, to.y - 4], [right(to), to.y - 4]]);
  }
  const aside = 6 + (edge.lane % 3) * 3;
  const bottom = from.y + from.height / 2, top = to.y - to.height / 2;
  const out = bottom > column.bottom - column.top + MARGIN - 1
    ? [[from.x, bottom], [from.x, bottom + aside], [lane, bottom + aside]]
    : [[from.x + from.width / 2, from.y], [lane, from.y]];
  const into = top < MARGIN + 1
    ? [[to.x, top - aside], [to.x, top]]
    : [[to.x - to.width / 2, to.y]];
  const level = into[0][1];
  if (edge.target === edge.column + 1) return rounded([...out, [lane, level], ...into]);
  const gutter = target.x - LANE, below = height - 3 - aside / 2;
  return rounded([...out, [lane, below], [gutter, below], [gutter, level], ...into]);
}

// A path through right angles, with their corners rounded.
function rounded(points, radius = 5) {
  const path = d3.path();
  path.moveTo(...points[0]);
  for (let index = 1; index < points.length - 1; index++) path.arcTo(...points[index], ...points[index + 1], radius);
  path.lineTo(...points.at(-1));
  return String(path);
}
