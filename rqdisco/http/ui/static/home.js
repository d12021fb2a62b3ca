// The home page: creates an ID, or opens one.

import { change } from "./api.js";

export function start(main) {
  const form = main.querySelector("#create");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    const trouble = form.querySelector(".trouble");
    button.disabled = true;
    trouble.hidden = true;
    try {
      const created = await change("POST", "/");
      location.assign(`/${encodeURIComponent(created.disco_id)}`);
    } catch (error) {
      trouble.textContent = error.message;
      trouble.hidden = false;
      button.disabled = false;
    }
  });
  main.querySelector("#open").addEventListener("submit", (event) => {
    event.preventDefault();
    const id = main.querySelector("#id").value.trim();
    // The pasted text may be the address of the ID's page.
    if (id) location.assign(`/${encodeURIComponent(id.replace(/^.*\//, ""))}`);
  });
}
