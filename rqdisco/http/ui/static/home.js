// The first page: mints an ID, or opens one.

import { change } from "./api.js";

export function start(main) {
  const mint = main.querySelector("#mint");
  mint.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = mint.querySelector("button");
    const trouble = mint.querySelector(".trouble");
    button.disabled = true;
    trouble.hidden = true;
    try {
      const minted = await change("POST", "/");
      location.assign(`/${encodeURIComponent(minted.disco_id)}`);
    } catch (error) {
      trouble.textContent = error.message;
      trouble.hidden = false;
      button.disabled = false;
    }
  });
  main.querySelector("#open").addEventListener("submit", (event) => {
    event.preventDefault();
    const id = main.querySelector("#id").value.trim();
    // What was pasted may be the address of its page.
    if (id) location.assign(`/${encodeURIComponent(id.replace(/^.*\//, ""))}`);
  });
}
