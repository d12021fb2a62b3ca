// A compact map of many nodes: a dot for each, with a label on hover and focus. The arrow keys move between dots.

import { el, visible } from "./text.js";

function words(node) {
  const found = [visible(node.addr)];
  if (node.leader) found.push("leader");
  if (node.alone) found.push("bootstrap node");
  if (node.up === false) found.push("does not answer");
  else if (node.unresolved) found.push("name does not resolve");
  else if (node.up) found.push(node.ready === false ? "up, not ready" : "up");
  return found.join(", ");
}

export function kind(node) {
  const found = ["node"];
  if (node.leader) found.push("leads");
  if (node.alone) found.push("alone");
  if (node.up === false) found.push("down");
  if (node.unresolved) found.push("unclear");
  return found.join(" ");
}

function mark(node) {
  if (node.up === false) return "✕";
  if (node.unresolved) return "?";
  return node.leader ? "★" : "";
}

// Returns a list of dots; `open` is called with the address of one that is chosen.
export function map(nodes, label, open) {
  const tip = el("div", { class: "tip", hidden: "", "aria-hidden": "true" });
  const dots = nodes.map((node, at) => {
    const dot = el("button", { type: "button", class: `dot ${kind(node)}`, "aria-label": words(node), tabindex: at ? "-1" : "0" }, mark(node));
    dot.dataset.addr = node.addr;
    return dot;
  });
  const list = el("ul", { class: nodes.length > 300 ? "map small" : "map", "aria-label": label }, ...dots.map((dot) => el("li", {}, dot)));
  const box = el("div", { class: "map-box" }, list, tip);

  function show(dot) {
    tip.textContent = dot.getAttribute("aria-label");
    tip.hidden = false;
    const [frame, place] = [box.getBoundingClientRect(), dot.getBoundingClientRect()];
    const middle = place.left - frame.left + place.width / 2 - tip.offsetWidth / 2;
    tip.style.left = `${Math.max(4, Math.min(middle, frame.width - tip.offsetWidth - 4))}px`;
    const above = place.top - frame.top - tip.offsetHeight - 6;
    tip.style.top = `${above < 2 ? place.bottom - frame.top + 6 : above}px`;
  }

  function step(key, at) {
    const top = dots[at].offsetTop;
    const inRow = dots.filter((dot) => dot.offsetTop === dots[0].offsetTop).length;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + inRow, ArrowUp: at - inRow, Home: 0, End: dots.length - 1 }[key];
    if (to === undefined || top === undefined) return false;
    const next = dots[Math.max(0, Math.min(to, dots.length - 1))];
    dots[at].tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
    return true;
  }

  list.addEventListener("pointerover", (event) => event.target.closest(".dot") && show(event.target.closest(".dot")));
  list.addEventListener("pointerleave", () => {
    const focused = dots.find((dot) => dot === document.activeElement);
    if (focused) show(focused);
    else tip.hidden = true;
  });
  list.addEventListener("focusin", (event) => show(event.target));
  list.addEventListener("focusout", () => {
    tip.hidden = true;
  });
  list.addEventListener("keydown", (event) => {
    if (event.key === "Escape") tip.hidden = true;
    else if (step(event.key, dots.indexOf(event.target))) event.preventDefault();
  });
  list.addEventListener("click", (event) => event.target.closest(".dot") && open(event.target.closest(".dot").dataset.addr));
  return box;
}
