// Server-sent events over fetch, which can send a token; EventSource cannot.

import { ask } from "./api.js";

const SILENCE = 40_000;

// Calls `event` with the data of each event and `state` with "live", "waiting" or "gone". While the page is hidden it
// keeps no connection open, since a browser opens few connections to one host.
export function follow(path, event, state) {
  let last = null;
  let wait = 1000;
  let running = null;
  let timer = null;

  async function run() {
    const ended = new AbortController();
    running = ended;
    let silence = null;
    let next = "waiting";
    const alive = () => {
      clearTimeout(silence);
      silence = setTimeout(() => ended.abort(), SILENCE);
    };
    try {
      alive();
      const headers = { Accept: "text/event-stream" };
      if (last !== null) headers["Last-Event-ID"] = last;
      const answer = await ask(path, { headers, signal: ended.signal });
      if (!answer.ok) {
        const after = Number(answer.headers.get("Retry-After"));
        if (after) wait = after * 1000;
        if ([401, 403, 404].includes(answer.status)) {
          next = "gone";
          wait = 30_000;
        }
      } else {
        state("live");
        await read(answer.body.getReader(), alive);
      }
    } catch {
      // Unreachable or disconnected: retried below.
    } finally {
      clearTimeout(silence);
    }
    if (running !== ended) return;
    running = null;
    if (!document.hidden) {
      state(next);
      timer = setTimeout(run, wait);
    }
  }

  async function read(reader, alive) {
    const decoder = new TextDecoder();
    let rest = "";
    let id = null;
    let data = [];
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      alive();
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (data.length) {
            event(JSON.parse(data.join("\n")));
            // Not earlier: an event whose connection breaks before its end must be sent again.
            last = id;
          }
          data = [];
        } else if (line.startsWith("data: ")) data.push(line.slice(6));
        else if (line.startsWith("id: ")) id = line.slice(4);
        else if (line.startsWith("retry: ")) wait = Number(line.slice(7)) || wait;
      }
    }
  }

  function stop() {
    clearTimeout(timer);
    const ended = running;
    running = null;
    if (ended) ended.abort();
  }

  document.addEventListener("visibilitychange", () => {
    stop();
    if (!document.hidden) run();
  });
  run();
}
