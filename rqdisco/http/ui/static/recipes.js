// The commands that start a node: they follow the address of the service and of the machine.

import { ask } from "./api.js";

// Updates the commands to the address that the browser uses: a proxy may stand in between.
async function correct(main) {
  const address = `${location.pathname}?url=${encodeURIComponent(location.origin)}`;
  const answer = await ask(address, { headers: { Accept: "text/html" } });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.querySelector(".recipes");
  if (!answer.ok || !fresh) return;
  main.querySelector(".recipes").replaceWith(fresh);
  fill(main);
}

// Puts the address of a machine into the commands of its node, so that they can be pasted as they are.
function fill(main) {
  const recipes = main.querySelector(".recipes");
  const field = recipes.querySelector("#own-address");
  const addresses = new Map();
  const marks = [...recipes.querySelectorAll("mark")].filter((each) => /^NODE\d+_IP$/.test(each.textContent));
  for (const each of marks) each.dataset.placeholder = each.textContent;
  const chosen = () => recipes.querySelector("[name=node]:checked").value;
  field.addEventListener("input", () => {
    const text = field.value.trim();
    const host = text.includes(":") && !text.startsWith("[") ? `[${text}]` : text;
    addresses.set(chosen(), field.value);
    for (const each of marks) {
      if (each.dataset.placeholder !== `NODE${chosen()}_IP`) continue;
      each.textContent = host || each.dataset.placeholder;
      each.classList.toggle("filled", Boolean(host));
    }
  });
  for (const each of recipes.querySelectorAll("[name=node]")) {
    each.addEventListener("change", () => {
      field.value = addresses.get(chosen()) ?? "";
    });
  }
}

export function start(main) {
  fill(main);
  if (main.dataset.guess && main.dataset.guess !== location.origin) correct(main);
}
