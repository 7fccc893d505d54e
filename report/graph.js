"use strict";
// The picture of the model: drawn once, then only marked.

// Draws the flow in `svg`; `onGroup` and `onLayer` are told what was clicked. Returns the ways to mark and to zoom.
function drawGraph(svg, flow, groups, {onGroup, onLayer}) {
  const panel = svg.node().getBoundingClientRect();
  const picture = layOut(flow, {width: panel.width, height: panel.height});
  const stage = svg.append("g");
  takeGroups(picture);
  const under = stage.append("g").attr("class", "under"), over = stage.append("g");
  const edges = under.selectAll("g").data(picture.edges).join("g")
    .attr("class", "edge")
    .call(colour, (edge) => edge.groups[0], groups)
    .on("click", (event, edge) => { if (edge.groups.length) onGroup(edge.groups[0]); });
  edges.append("path").attr("d", (edge) => edge.path);
  edges.append("path").attr("class", "touch").attr("d", (edge) => edge.path);
  edges.append("title").text((edge) => edgeTitle(edge, picture.nodes, groups));
  const nodes = stage.append("g").selectAll("g").data(picture.nodes).join("g")
    .attr("class", (node) => `node ${node.kind}`)
    .attr("transform", (node) => `translate(${node.x} ${node.y})`)
    .call(colour, (node) => node.groups[0], groups);
  nodes.append("rect").attr("x", (node) => -node.width / 2).attr("y", -NODE_HEIGHT / 2)
    .attr("width", (node) => node.width).attr("height", NODE_HEIGHT)
    .attr("rx", (node) => (node.kind === "layer" ? 4 : NODE_HEIGHT / 2));
  nodes.append("text").text((node) => node.label);
  nodes.append("title").text((node) => nodeTitle(node, groups));
  nodes.filter((node) => node.kind === "layer")
    .attr("tabindex", 0).attr("role", "button").attr("data-layer", (node) => node.name)
    .attr("aria-label", (node) => nodeTitle(node, groups))
    .on("click", (event, node) => onLayer(node))
    .on("keydown", (event, node) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      onLayer(node);
    });
  const layers = {under: under.node(), over: over.node()};
  return {mark: marker(svg, nodes, edges, groups, layers), ...zooming(svg, stage, picture)};
}

// What is no layer has the groups that flow in.
function takeGroups({nodes, edges}) {
  for (const edge of edges) {
    const {kind, groups} = nodes[edge.to];
    if (kind !== "layer") nodes[edge.to].groups = [...groups, ...edge.groups];
  }
}

function colour(selection, groupOf, groups) {
  selection
    .attr("data-group", (one) => groupOf(one) ?? "")
    .classed("held", (one) => groups[groupOf(one)]?.blocked != null)
    .style("--hue", (one) => groups[groupOf(one)]?.hue ?? 0);
}

function nodeTitle(node, groups) {
  if (node.kind !== "layer") return node.label;
  return [node.name, ...node.groups.map((index) => describeGroup(groups[index]))].join("\n");
}

function edgeTitle(edge, nodes, groups) {
  const way = `${nodes[edge.from].label} to ${nodes[edge.to].label}`;
  return [way, ...edge.groups.map((index) => describeGroup(groups[index]))].join("\n");
}

function describeGroup(group) {
  return `group ${group.name}: ${slotsOf(group)} slots${group.blocked == null ? "" : ", blocked"}`;
}

// Lights what belongs to some groups and marks the layers that were picked; of nothing, all is as it was.
// Lit edges move over the others, which fade as one: where many run together they would stay dark.
function marker(svg, nodes, edges, groups, {under, over}) {
  return function mark(chosen, picked) {
    const wanted = new Set(chosen);
    const lit = (one) => one.groups.some((group) => wanted.has(group));
    svg.classed("chosen", wanted.size > 0);
    nodes.classed("lit", lit).classed("picked", (node) => picked.includes(node.name) && node.kind === "layer");
    edges.classed("lit", lit)
      .call(colour, (edge) => edge.groups.find((group) => wanted.has(group)) ?? edge.groups[0], groups)
      .each(function move(edge) {
        const layer = lit(edge) ? over : under;
        if (this.parentNode !== layer) layer.append(this);
      });
  };
}

function zooming(svg, stage, picture) {
  const zoom = d3.zoom().scaleExtent([0.05, 6]).on("zoom", (event) => stage.attr("transform", event.transform));
  svg.call(zoom).on("dblclick.zoom", null);
  const fitted = () => {
    const {width, height} = svg.node().getBoundingClientRect();
    const scale = Math.min((width - 24) / picture.width, (height - 16) / picture.height, 1.6);
    return d3.zoomIdentity
      .translate((width - picture.width * scale) / 2, (height - picture.height * scale) / 2).scale(scale);
  };
  svg.call(zoom.transform, fitted());
  return {
    zoomBy: (factor) => svg.transition().duration(150).call(zoom.scaleBy, factor),
    fit: () => svg.transition().duration(200).call(zoom.transform, fitted()),
  };
}
