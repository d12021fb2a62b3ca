// Starts what belongs to the page that came. Where tokens are asked for, fetches it with that of this tab.

import { announce, ask, token } from "./api.js";
import { start as cluster } from "./cluster.js";
import { start as home } from "./home.js";
import { start as status } from "./status.js";

const STARTS = { home, cluster, status };

function begin() {
  const main = document.getElementById("main");
  document.getElementById("forget").hidden = !token.get();
  if (main.dataset.page === "token") asking(main);
  STARTS[main.dataset.page]?.(main);
}

// The same page as who has the token sees it; false if it has no right to that.
async function fetchPage(address = location.href) {
  const answer = await ask(address, { headers: { Accept: "text/html" } });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const main = page.getElementById("main");
  if (!main || answer.status === 401) return false;
  document.title = page.title;
  document.getElementById("main").replaceWith(main);
  begin();
  return true;
}

async function asking(main) {
  const form = main.querySelector("form");
  const field = form.querySelector("input");
  const trouble = form.querySelector(".trouble");
  const tryIt = async () => {
    try {
      if (await fetchPage()) return;
      trouble.textContent = "This token is not known here.";
      token.forget();
    } catch {
      trouble.textContent = "The service cannot be reached.";
    }
    form.hidden = false;
    trouble.hidden = false;
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
    // Browsers have no clipboard for pages that came by plain HTTP; this one is old, and works there.
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
  announce(done ? "Copied" : "Cannot copy, select the text");
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
