// The button that creates the ID that was not found.

import { change } from "./api.js";

export function start(main) {
  const form = main.querySelector("#create-this");
  if (!form.dataset.id) return;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    const message = form.querySelector(".error");
    button.disabled = true;
    try {
      const path = `/${encodeURIComponent(form.dataset.id)}`;
      await change("PUT", path);
      location.assign(path);
    } catch (error) {
      message.textContent = error.message;
      message.hidden = false;
      button.disabled = false;
    }
  });
}
