// Draws a cluster: its leader, the node that was told to bootstrap, and new nodes.

import { visible } from "./api.js";

const SVG = "http://www.w3.org/2000/svg";
const MAX_NAMED = 14;

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

// Places nodes on an oval.
function oval(count, width, height) {
  if (count === 1) return [[width / 2, height / 2 - 14]];
  const across = Math.min(width / 2 - 72, 330);
  const down = height / 2 - 58;
  return Array.from({ length: count }, (_, at) => {
    const angle = -Math.PI / 2 + (2 * Math.PI * at) / count;
    return [width / 2 + across * Math.cos(angle), height / 2 - 12 + down * Math.sin(angle)];
  });
}

function kind(node) {
  const words = ["node"];
  if (node.leader) words.push("leads");
  if (node.alone) words.push("alone");
  if (node.up === false) words.push("down");
  if (node.unresolved) words.push("unresolved");
  return words.join(" ");
}

function named(node, number, [x, y], known, room) {
  const group = make("g", { class: kind(node) + (known.has(node.addr) ? "" : " new"), transform: `translate(${x} ${y})` });
  group.append(
    make("circle", { class: "halo", r: 29 }),
    make("circle", { class: "disc", r: 23 }),
    make("text", { class: "mark" }, node.leader ? "★" : String(number)),
    make("text", { class: "name", y: 46 }, short(node.node_id || (node.leader ? "leader" : `node ${number}`), room / 8)),
    make("text", { class: "under", y: 62 }, short(node.addr, room / 7.2)),
    make("title", {}, visible(node.addr)),
  );
  return group;
}

function many(nodes, width) {
  const step = nodes.length > 300 ? 17 : 28;
  const across = Math.max(1, Math.floor((width - 24) / step));
  const left = (width - across * step) / 2 + step / 2;
  const dots = nodes.map((node, at) => {
    const place = { cx: left + (at % across) * step, cy: 20 + Math.floor(at / across) * step, r: step * 0.32 };
    const parts = [make("circle", { class: "disc", ...place }), make("title", {}, visible(node.addr))];
    if (node.alone) parts.unshift(make("circle", { class: "halo", ...place, r: step * 0.46 }));
    return make("g", { class: kind(node) }, ...parts);
  });
  return [dots, 40 + Math.ceil(nodes.length / across) * step];
}

// Draws `nodes` into `frame`; those not in `known` are new. Without nodes it shows the text `empty`.
export function draw(frame, nodes, known, empty) {
  const width = Math.max(260, frame.clientWidth);
  let height = width < 520 ? 330 : 320;
  let parts = [];
  if (nodes.length > MAX_NAMED) {
    [parts, height] = many(nodes, width);
  } else if (nodes.length) {
    if (nodes.length === 1) height = 190;
    else if (width < 520 && nodes.length > 6) height = 520;
    const places = oval(nodes.length, width, height);
    const room = Math.min(170, (2 * width) / Math.max(3, nodes.length));
    const hub = Math.max(0, nodes.findIndex((node) => node.leader));
    const led = nodes[hub].leader ? "link led" : "link";
    const links = places.map(([x, y]) => make("line", { class: led, x1: places[hub][0], y1: places[hub][1], x2: x, y2: y }));
    parts = [...links, ...nodes.map((node, at) => named(node, at + 1, places[at], known, room))];
  } else {
    height = 190;
    parts = [0, 1, 2].map((at) => make("circle", { class: "empty", r: 23, cx: width / 2 + (at - 1) * 84, cy: 78 }));
    parts.push(make("text", { class: "name", x: width / 2, y: 146 }, empty || "No node has registered yet"));
  }
  const leader = nodes.find((node) => node.leader);
  const label = `${nodes.length} node${nodes.length === 1 ? "" : "s"}${leader ? `, led by ${visible(leader.addr)}` : ""}`;
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label }, ...parts);
  frame.replaceChildren(svg);
  requestAnimationFrame(() => svg.querySelectorAll(".new").forEach((node) => node.classList.remove("new")));
}
