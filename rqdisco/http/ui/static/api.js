// What this page asks the service: with the token of this tab, where tokens are asked for.

const KEY = "rqdisco-token";

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export function ask(path, options = {}) {
  const headers = { Accept: "application/json", ...options.headers };
  const secret = token.get();
  if (secret) headers.Authorization = `Bearer ${secret}`;
  // A browser that holds credentials back asks nobody for a password when the token is refused.
  const credentials = secret ? "omit" : "same-origin";
  return fetch(path, { ...options, headers, credentials, cache: "no-store" });
}

// A change; the members of the answer, or Refused with what was said against it.
export async function change(method, path, body) {
  let answer;
  try {
    answer = await ask(path, {
      method,
      headers: { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Refused(0, "The service cannot be reached.");
  }
  const said = await answer.json().catch(() => ({}));
  if (answer.ok) return said;
  const text = said.reason ? `${said.error}: ${said.reason}` : said.error;
  throw new Refused(answer.status, text || answer.statusText || "The service said no.");
}

// Text from elsewhere, with everything shown that would not be seen.
export function visible(text) {
  return String(text).replace(/[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/gu, (character) => {
    return `\\u{${character.codePointAt(0).toString(16)}}`;
  });
}

export function announce(text) {
  document.getElementById("announce").textContent = text;
}
