// Starts the script of the current page. Where tokens are required, fetches the page with the token of this tab.

import { announce, ask, token } from "./api.js";
import { start as cluster } from "./cluster.js";
import { start as unknown } from "./create.js";
import { start as home } from "./home.js";
import { start as status } from "./status.js";

const STARTS = { home, cluster, status, unknown };

function begin() {
  document.documentElement.classList.add("scripted");
  const main = document.getElementById("main");
  document.getElementById("forget").hidden = !token.get();
  if (main.dataset.page === "token") showTokenForm(main);
  STARTS[main.dataset.page]?.(main);
}

// Replaces the page by the one for this token; returns false if the token is not accepted.
async function fetchPage(address = location.href) {
  const answer = await ask(address, { headers: { Accept: "text/html" } });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const main = page.getElementById("main");
  if (!main || answer.status === 401) return false;
  // A form was followed to the page of an ID.
  if (answer.redirected) history.replaceState(null, "", answer.url);
  document.title = page.title;
  document.getElementById("main").replaceWith(main);
  begin();
  return true;
}

async function showTokenForm(main) {
  const form = main.querySelector("form");
  const field = form.querySelector("input");
  const message = form.querySelector(".error");
  const tryIt = async () => {
    try {
      if (await fetchPage()) return;
      message.textContent = "Unknown token.";
      token.forget();
    } catch {
      message.textContent = "The service is unreachable.";
    }
    form.hidden = false;
    message.hidden = false;
    field.focus();
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    token.set(field.value.trim());
    tryIt();
  });
  if (token.get()) {
    form.hidden = true;
    await tryIt();
  } else form.hidden = false;
}

async function copy(button) {
  const text = document.getElementById(button.dataset.copy).textContent;
  let done = false;
  try {
    await navigator.clipboard.writeText(text);
    done = true;
  } catch {
    // Over plain HTTP browsers have no clipboard API; this older one works there.
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    done = document.execCommand("copy");
    field.remove();
    button.focus();
  }
  const before = button.dataset.label ?? button.textContent;
  button.dataset.label = before;
  button.textContent = done ? "Copied" : "Select and copy";
  announce(done ? "Copied" : "Copying failed, select the text");
  setTimeout(() => {
    button.textContent = before;
  }, 2000);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button);
});
document.getElementById("forget").addEventListener("click", () => {
  token.forget();
  location.reload();
});
begin();
