// The page of one ID, updated by events.

import { announce, change } from "./api.js";
import { draw } from "./picture.js";
import { start as startRecipes } from "./recipes.js";
import { follow } from "./stream.js";
import { counted, el, sentence, visible } from "./text.js";

const MAX_SHOWN = 200;
const CLAIMED = "A node claimed to lead, and is shown once it reports itself";
const NOTHING_TO_DO = "nothing to do";
const STATES = { live: "Live", waiting: "Reconnecting…", gone: "Not live: the service refuses to stream this ID" };

function status(node) {
  if (node.unresolved) return ["unclear", "name does not resolve"];
  if (node.up === undefined || node.up === null) return ["unknown", "not probed"];
  if (!node.up) return ["down", "does not answer"];
  return node.ready === false ? ["unready", "up, not ready"] : ["up", "up"];
}

function row(node, warnings) {
  const first = el("td", {}, el("bdi", { class: "addr" }, visible(node.addr)));
  if (node.leader) first.append(el("span", { class: "tag leader" }, "leader"));
  if (node.alone) first.append(el("span", { class: "tag alone" }, "bootstrap node"));
  for (const each of warnings) first.append(el("p", { class: "mark-note" }, ...sentence(each.problem), " ", ...sentence(each.fix)));
  const text = (what, value) => {
    const cell = el("td", { class: "mono", "data-what": what });
    if (value) cell.append(el("bdi", {}, visible(value)));
    return cell;
  };
  const [state, words] = status(node);
  const seen = el("td", {}, el("span", { class: "state", "data-state": state }, words));
  const since = el("td", { class: "quiet small", "data-what": "since" });
  if (node.heard) since.append(el("time", { datetime: node.heard, title: node.heard }, moment(node.heard)));
  const remove = el("button", { type: "button", class: "slight", "data-remove": node.addr }, "Remove");
  remove.append(el("span", { class: "visually-hidden" }, ` ${visible(node.addr)}`));
  const cells = [first, seen, text("Raft", node.raft_addr), text("ID", node.node_id), since, el("td", {}, remove)];
  const made = el("tr", {}, ...cells);
  made.dataset.addr = node.addr;
  made.dataset.shows = shows(node, warnings);
  return made;
}

// What a row shows; a row that shows the same is kept.
function shows(node, warnings) {
  return JSON.stringify([node, warnings]);
}

function moment(iso) {
  const at = new Date(iso);
  const today = new Date().toDateString() === at.toDateString();
  return today ? at.toLocaleTimeString() : at.toLocaleString();
}

function changes(before, after) {
  const added = after.filter((addr) => !before.has(addr));
  const now = new Set(after);
  const removed = [...before].filter((addr) => !now.has(addr));
  const name = (list, what) => (list.length > 3 ? `${list.length} nodes ${what}` : list.map((addr) => `${visible(addr)} ${what}`).join(", "));
  return [added.length && name(added, "registered"), removed.length && name(removed, "removed")].filter(Boolean).join(", ");
}

export function start(main) {
  const id = main.dataset.id;
  const frame = main.querySelector(".picture");
  // An ID under which no node can start any more.
  if (!frame) return;
  const body = main.querySelector(".nodes tbody");
  const table = main.querySelector(".nodes");
  const live = document.getElementById("live");
  const find = document.getElementById("find");
  const more = document.getElementById("more");
  let shown = JSON.parse(main.dataset.record);
  let known = new Set(shown.nodes);
  let all = false;

  function wanted() {
    const text = find.value.trim().toLowerCase();
    const nodes = shown.registrations;
    if (!text) return nodes;
    return nodes.filter((node) => [node.addr, node.raft_addr, node.node_id].some((each) => each?.toLowerCase().includes(text)));
  }

  function list(isNew) {
    const nodes = wanted();
    const visibleNodes = all ? nodes : nodes.slice(0, MAX_SHOWN);
    const before = new Map([...body.children].map((each) => [each.dataset.addr, each]));
    const rows = visibleNodes.map((node) => {
      const old = before.get(node.addr);
      const warnings = shown.warnings.filter(({ addr }) => addr === node.addr || addr === node.raft_addr);
      if (old?.dataset.shows === shows(node, warnings)) return old;
      const made = row(node, warnings);
      if (isNew(node.addr)) made.classList.add("fresh");
      return made;
    });
    // Unchanged rows are not touched, so that the focus stays where it is.
    let at = body.firstElementChild;
    const unchanged = new Set(rows);
    for (const each of [...body.children]) if (!unchanged.has(each)) { if (each === at) at = each.nextElementSibling; each.remove(); }
    for (const each of rows) {
      if (each === at) at = at.nextElementSibling;
      else body.insertBefore(each, at);
    }
    table.hidden = nodes.length === 0;
    more.hidden = visibleNodes.length === nodes.length;
    more.textContent = `Show all ${nodes.length.toLocaleString("en")} nodes`;
    find.closest(".find").hidden = shown.nodes.length <= 12;
  }

  // Returns what to announce of it.
  function showVerdict() {
    const { verdict, reason, next_step: step } = shown.health;
    const badge = document.getElementById("health");
    const isNew = badge.dataset.health !== verdict;
    document.getElementById("verdict").dataset.health = badge.dataset.health = badge.textContent = verdict;
    document.getElementById("reason").replaceChildren(...sentence(reason));
    const next = document.getElementById("next");
    next.hidden = step === NOTHING_TO_DO;
    next.replaceChildren(...sentence(step));
    const nodes = counted(shown.nodes.length, "node");
    document.getElementById("count").textContent = nodes;
    document.title = `${verdict}, ${nodes} · ${id} · rqdisco`;
    return isNew ? `Health: ${verdict}` : "";
  }

  function showLegend() {
    const { registrations } = shown;
    const there = {
      leader: registrations.some((node) => node.leader),
      alone: registrations.some((node) => node.alone),
      down: registrations.some((node) => node.up === false),
      unclear: registrations.some((node) => node.unresolved),
    };
    for (const each of main.querySelectorAll(".legend [data-for]")) each.hidden = !there[each.dataset.for];
  }

  // Shows the row of a node that was chosen on the map.
  function open(addr) {
    find.value = "";
    all ||= shown.nodes.indexOf(addr) >= MAX_SHOWN;
    list(() => false);
    const chosen = [...body.children].find((each) => each.dataset.addr === addr);
    chosen.scrollIntoView({ block: "center" });
    chosen.classList.remove("fresh");
    requestAnimationFrame(() => chosen.classList.add("fresh"));
    chosen.querySelector("button").focus({ preventScroll: true });
  }

  function paint(before) {
    const empty = shown.claim && CLAIMED;
    draw(frame, shown.registrations, before, empty, open);
  }

  function update(record) {
    const before = known;
    const text = changes(before, record.nodes);
    shown = record;
    known = new Set(record.nodes);
    list((addr) => !before.has(addr));
    paint(before);
    const news = [text, showVerdict()].filter(Boolean).join(". ");
    showLegend();
    if (news) announce(news);
  }

  function removal(addr) {
    const dialog = document.getElementById("removal");
    const isLast = shown.nodes.length === 1;
    dialog.querySelector("h2").replaceChildren("Remove ", el("bdi", {}, visible(addr)), "?");
    dialog.querySelector(".note").hidden = !isLast;
    const message = dialog.querySelector(".error");
    message.hidden = true;
    const confirm = dialog.querySelector(".danger");
    confirm.disabled = false;
    confirm.onclick = async function remove() {
      confirm.disabled = true;
      const error = await change("DELETE", `/${encodeURIComponent(id)}`, { addr }).then(() => null, (why) => why);
      // The dialog may ask about another node by now.
      if (confirm.onclick !== remove) return;
      confirm.disabled = false;
      if (error) {
        message.textContent = error.message;
        message.hidden = false;
      } else {
        dialog.close();
        document.getElementById("nodes-title").focus();
      }
    };
    dialog.showModal();
  }

  body.addEventListener("click", (event) => {
    const button = event.target.closest("[data-remove]");
    if (button) removal(button.dataset.remove);
  });
  main.querySelector("dialog .cancel").addEventListener("click", () => document.getElementById("removal").close());
  find.addEventListener("input", () => list(() => false));
  more.addEventListener("click", () => {
    all = true;
    list(() => false);
  });
  // The picture says the same.
  document.getElementById("none").remove();
  startRecipes(main);
  body.replaceChildren();
  list(() => false);
  paint(known);
  showVerdict();
  showLegend();
  let width = frame.clientWidth;
  new ResizeObserver(() => {
    if (frame.clientWidth !== width) {
      width = frame.clientWidth;
      paint(known);
    }
  }).observe(frame);
  follow(`/${encodeURIComponent(id)}/events`, update, (state) => {
    live.dataset.state = state;
    live.textContent = STATES[state];
  });
}
