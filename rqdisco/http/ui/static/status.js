// The status page, refreshed every few seconds.

import { ask, giveUpAfter } from "./api.js";

const EVERY = 10_000;

export function start(main) {
  const live = document.getElementById("live");
  async function refresh() {
    if (!main.isConnected) return;
    if (!document.hidden) {
      try {
        const answer = await ask("/status", { headers: { Accept: "text/html" }, signal: giveUpAfter(EVERY) });
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const fresh = page.getElementById("state");
        if (!answer.ok || !fresh) throw new Error(answer.statusText);
        document.getElementById("state").replaceWith(fresh);
        live.dataset.state = "live";
        live.textContent = "Live";
      } catch {
        live.dataset.state = "waiting";
        live.textContent = "Unreachable";
      }
    }
    setTimeout(refresh, EVERY);
  }
  live.dataset.state = "live";
  live.textContent = "Live";
  setTimeout(refresh, EVERY);
}
