// Draws a cluster of a few nodes: its leader, the bootstrap node, and new nodes. No line crosses a name or an address.

import { counted, visible } from "./text.js";
import { kind, map } from "./map.js";

const SVG = "http://www.w3.org/2000/svg";
const MAX_DRAWN = 12;
// In a narrow frame the nodes stand below each other.
const NARROW = 640;
const MAX_NARROW = 6;
const STEP = 60;

function make(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function short(text, most) {
  const shown = [...visible(text)];
  return shown.length > most ? `${shown.slice(0, most - 1).join("")}…` : shown.join("");
}

// Places nodes on an oval, the first at the top, with names outside of it.
function oval(count, width, down) {
  if (count === 1) return [{ x: width / 2, y: 48, side: "below" }];
  const across = Math.min(width / 2 - 200, 290);
  return Array.from({ length: count }, (_, at) => {
    const angle = -Math.PI / 2 + (2 * Math.PI * at) / count;
    const [x, y] = [width / 2 + across * Math.cos(angle), 76 + down * (1 + Math.sin(angle))];
    if (Math.abs(x - width / 2) < 1) return { x, y, side: at ? "below" : "above" };
    return { x, y, side: x > width / 2 ? "right" : "left" };
  });
}

function column(count) {
  return Array.from({ length: count }, (_, at) => ({ x: 40, y: 44 + at * STEP, side: "right" }));
}

const TEXTS = {
  above: { anchor: "middle", x: 0, name: -50, under: -35 },
  below: { anchor: "middle", x: 0, name: 46, under: 62 },
  right: { anchor: "start", x: 36, name: -4, under: 13 },
  left: { anchor: "end", x: -36, name: -4, under: 13 },
};

function named(node, number, { x, y, side }, known, room) {
  const at = TEXTS[side];
  const place = { x: at.x, "text-anchor": at.anchor };
  const mark = node.up === false ? "✕" : node.unresolved ? "?" : node.leader ? "★" : String(number);
  const group = make("g", { class: kind(node) + (known.has(node.addr) ? "" : " new"), transform: `translate(${x} ${y})` });
  group.append(
    make("circle", { class: "halo", r: 27 }),
    make("circle", { class: "disc", r: 21 }),
    make("text", { class: "mark" }, mark),
    make("text", { class: "name", y: at.name, ...place }, short(node.node_id || (node.leader ? "leader" : `node ${number}`), room / 8)),
    make("text", { class: "under", y: at.under, ...place }, short(node.addr, room / 7.4)),
    make("title", {}, visible(node.addr)),
  );
  return group;
}

// The leader first: it stands at the top. Numbers are those of the list.
function ordered(nodes) {
  const numbered = nodes.map((node, at) => [node, at + 1]);
  return [...numbered.filter(([node]) => node.leader), ...numbered.filter(([node]) => !node.leader)];
}

function drawn(nodes, width, known) {
  const isNarrow = width < NARROW;
  const count = nodes.length;
  const places = isNarrow ? column(count) : oval(count, width, count < 4 ? 64 : count < 7 ? 84 : 124);
  const last = places.reduce((lowest, place) => (place.y > lowest.y ? place : lowest));
  const height = last.y + (last.side === "below" ? 80 : 44);
  const room = isNarrow ? width - 90 : count > 2 ? width / 2 - Math.min(width / 2 - 200, 290) - 44 : 240;
  const all = ordered(nodes);
  const links = [];
  if (all[0][0].leader) {
    places.forEach(({ x, y }, at) => {
      // In a column each line leads to the node above.
      const from = isNarrow ? places[Math.max(0, at - 1)] : places[0];
      if (at) links.push(make("line", { class: "link", x1: from.x, y1: from.y, x2: x, y2: y }));
    });
  }
  return [[...links, ...all.map(([node, number], at) => named(node, number, places[at], known, room))], height];
}

function nothing(width, text) {
  const parts = [0, 1, 2].map((at) => make("circle", { class: "empty", r: 21, cx: width / 2 + (at - 1) * 84, cy: 62 }));
  parts.push(make("text", { class: "name", x: width / 2, y: 122, "text-anchor": "middle" }, text));
  return [parts, 150];
}

// Draws `nodes` into `frame`; those not in `known` are new. Without nodes it shows the text `empty`. `open` is called
// with the address of a dot that is chosen on a map.
export function draw(frame, nodes, known, empty, open) {
  const width = Math.max(260, frame.clientWidth);
  const leader = nodes.find((node) => node.leader);
  const label = `${counted(nodes.length, "node")}${leader ? `, led by ${visible(leader.addr)}` : ""}`;
  if (nodes.length > (width < NARROW ? MAX_NARROW : MAX_DRAWN)) {
    frame.replaceChildren(map(nodes, label, open));
    return;
  }
  const [parts, height] = nodes.length ? drawn(nodes, width, known) : nothing(width, empty || "No node has registered yet");
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label }, ...parts);
  frame.replaceChildren(svg);
  requestAnimationFrame(() => svg.querySelectorAll(".new").forEach((node) => node.classList.remove("new")));
}
