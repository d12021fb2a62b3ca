// Requests to the service, with the token of this tab if there is one.

const KEY = "rqdisco-token";
// The service answers within 8 seconds.
const PATIENCE = 15_000;

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
  // With credentials omitted a browser does not prompt for a password when the token is refused.
  const credentials = secret ? "omit" : "same-origin";
  return fetch(path, { ...options, headers, credentials, cache: "no-store" });
}

// A signal to give a request up after so many milliseconds: a service that hangs keeps its connections open and silent.
export function giveUpAfter(milliseconds) {
  const given = new AbortController();
  setTimeout(() => given.abort(), milliseconds);
  return given.signal;
}

// Sends a change; returns the members of the response, or throws Refused with the reason.
export async function change(method, path, body) {
  let answer;
  try {
    answer = await ask(path, {
      method,
      headers: { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: giveUpAfter(PATIENCE),
    });
  } catch {
    throw new Refused(0, "The service is unreachable.");
  }
  const members = await answer.json().catch(() => ({}));
  if (answer.ok) return members;
  const text = members.reason ? `${members.error}: ${members.reason}` : members.error;
  throw new Refused(answer.status, text || answer.statusText || "The service refused the request.");
}

export function announce(text) {
  document.getElementById("announce").textContent = text;
}
