// The page of one ID, updated by events.

import { announce, ask, change, visible } from "./api.js";
import { draw } from "./picture.js";
import { follow } from "./stream.js";

const MAX_SHOWN = 200;
const CLAIMED = "A node claimed to lead, and is shown once it reports itself";
const STATES = { live: "Live", waiting: "Reconnecting…", gone: "Not live: the service refuses to stream this ID" };

function el(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function row(node) {
  const first = el("td", {}, el("bdi", { class: "addr" }, visible(node.addr)));
  if (node.leader) first.append(el("span", { class: "tag leader" }, "leader"));
  if (node.alone) first.append(el("span", { class: "tag alone" }, "told to bootstrap"));
  if (node.up === false) first.append(el("span", { class: "tag down" }, "does not answer"));
  if (node.unresolved) first.append(el("span", { class: "tag unresolved" }, "name does not resolve"));
  const text = (what, value) => {
    const cell = el("td", { class: "mono", "data-what": what });
    if (value) cell.append(el("bdi", {}, visible(value)));
    return cell;
  };
  const since = el("td", { class: "quiet small", "data-what": "since" });
  if (node.heard) since.append(el("time", { datetime: node.heard, title: node.heard }, moment(node.heard)));
  const remove = el("button", { type: "button", class: "slight", "data-remove": node.addr }, "Remove");
  remove.append(el("span", { class: "visually-hidden" }, ` ${visible(node.addr)}`));
  const made = el("tr", {}, first, text("Raft", node.raft_addr), text("ID", node.node_id), since, el("td", {}, remove));
  made.dataset.addr = node.addr;
  made.dataset.node = JSON.stringify(node);
  return made;
}

function moment(iso) {
  const at = new Date(iso);
  const today = new Date().toDateString() === at.toDateString();
  return today ? at.toLocaleTimeString() : at.toLocaleString();
}

// Updates the flags to the address that the browser uses: a proxy may stand in between.
async function correctFlags(main) {
  const address = `${location.pathname}?url=${encodeURIComponent(location.origin)}`;
  const answer = await ask(address, { headers: { Accept: "text/html" } });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.querySelector(".recipes");
  if (answer.ok && fresh) main.querySelector(".recipes").replaceWith(fresh);
}

export function start(main) {
  if (main.dataset.guess && main.dataset.guess !== location.origin) correctFlags(main);
  const id = main.dataset.id;
  const frame = main.querySelector(".picture");
  const body = main.querySelector(".nodes tbody");
  const table = main.querySelector(".nodes");
  const live = document.getElementById("live");
  const find = document.getElementById("find");
  const more = document.getElementById("more");
  const claim = document.getElementById("claim");
  // The time that a leader may take to report itself after its claim.
  const long = claim.dataset.long * 1000;
  let shown = JSON.parse(main.dataset.record);
  let known = new Set(shown.nodes);
  let all = false;
  let overdue = null;

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
      if (old?.dataset.node === JSON.stringify(node)) return old;
      const made = row(node);
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
    more.textContent = `Show all ${nodes.length.toLocaleString()} nodes`;
    find.closest(".find").hidden = shown.nodes.length < 20;
  }

  function showTwoLeaders() {
    const two = shown.two_leaders;
    const banner = document.getElementById("two-leaders");
    banner.hidden = !two;
    if (two) banner.querySelectorAll("bdi").forEach((each, number) => each.replaceChildren(visible(two[number])));
  }

  function showCount() {
    const count = shown.nodes.length;
    const leader = shown.registrations.find((node) => node.leader);
    const words = [count === 1 ? "1 node" : `${count.toLocaleString()} nodes`];
    if (leader) words.push(shown.leader.reported ? "a leader has reported itself" : "a node has claimed to lead and not reported itself yet");
    if (shown.claim) words.push("a node has claimed to lead and not reported itself yet");
    document.getElementById("first").hidden = Boolean(shown.claim);
    document.getElementById("count").textContent = words.join(", ");
    document.title = `${count === 1 ? "1 node" : `${count} nodes`} · ${id} · rqdisco`;
  }

  // Shows what to do about a claim once it has waited for long.
  function warnOfClaim() {
    clearTimeout(overdue);
    const left = shown.claim ? Date.parse(shown.claim.since) + long - Date.now() : Infinity;
    claim.hidden = left > 0;
    if (shown.claim && left > 0) overdue = setTimeout(warnOfClaim, Math.min(left, long));
  }

  function changes(before, after) {
    const added = after.filter((addr) => !before.has(addr));
    const now = new Set(after);
    const removed = [...before].filter((addr) => !now.has(addr));
    const name = (list, what) => (list.length > 3 ? `${list.length} nodes ${what}` : list.map((addr) => `${visible(addr)} ${what}`).join(", "));
    return [added.length && name(added, "registered"), removed.length && name(removed, "removed")].filter(Boolean).join(", ");
  }

  function update(record) {
    const text = changes(known, record.nodes);
    const before = known;
    shown = record;
    known = new Set(record.nodes);
    list((addr) => !before.has(addr));
    draw(frame, record.registrations, before, record.claim && CLAIMED);
    showCount();
    warnOfClaim();
    showTwoLeaders();
    if (text) announce(text);
  }

  function removal(addr) {
    const dialog = document.getElementById("removal");
    const isLast = shown.nodes.length === 1;
    dialog.querySelector("h2").replaceChildren("Remove ", el("bdi", {}, visible(addr)), "?");
    dialog.querySelector(".note").hidden = !isLast;
    const message = dialog.querySelector(".error");
    message.hidden = true;
    const confirm = dialog.querySelector(".danger");
    confirm.onclick = async () => {
      confirm.disabled = true;
      try {
        await change("DELETE", `/${encodeURIComponent(id)}`, { addr });
        dialog.close();
        document.getElementById("nodes-title").focus();
      } catch (error) {
        message.textContent = error.message;
        message.hidden = false;
      } finally {
        confirm.disabled = false;
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
  body.replaceChildren();
  list(() => false);
  draw(frame, shown.registrations, known, shown.claim && CLAIMED);
  showCount();
  warnOfClaim();
  showTwoLeaders();
  let width = frame.clientWidth;
  new ResizeObserver(() => {
    if (frame.clientWidth !== width) {
      width = frame.clientWidth;
      draw(frame, shown.registrations, known, shown.claim && CLAIMED);
    }
  }).observe(frame);
  follow(`/${encodeURIComponent(id)}/events`, update, (state) => {
    live.dataset.state = state;
    live.textContent = STATES[state];
  });
}
