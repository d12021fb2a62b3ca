// The home page: creates an ID. The form that opens one needs no script.

import { change } from "./api.js";

export function start(main) {
  const form = main.querySelector("#create");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    const message = form.querySelector(".error");
    button.disabled = true;
    message.hidden = true;
    try {
      const name = form.querySelector("#name").value.trim();
      const created = await (name ? change("PUT", `/${encodeURIComponent(name)}`) : change("POST", "/"));
      location.assign(`/${encodeURIComponent(created.disco_id)}`);
    } catch (error) {
      message.textContent = error.message;
      message.hidden = false;
      button.disabled = false;
    }
  });
}
