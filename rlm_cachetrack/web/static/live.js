"use strict";
// Receives the server's events for the pages. Browsers allow six connections per server, and an event stream occupies
// one as long as it is open, so a seventh tab would wait forever. Therefore all tabs share one stream in a shared
// worker, for which this file is the script too. Without shared workers each visible tab opens a stream of its own.

function stream(notify) {
  let events = null, retry = 0;
  const open = () => {
    events = new EventSource("/live");
    for (const name of ["hello", "changed", "down", "up"]) events.addEventListener(name, (event) => notify(name, JSON.parse(event.data)));
    events.onerror = () => {
      notify("lost", {});
      // A response other than a stream, such as a proxy's 502, closes the EventSource for good: open another.
      if (events.readyState === EventSource.CLOSED) retry = setTimeout(open, 3000);
    };
  };
  open();
  return () => { clearTimeout(retry); events.close(); };
}

if (typeof SharedWorkerGlobalScope !== "undefined") {
  const pages = new Set();
  let close = null, state = null;
  const notify = (name, data) => {
    // The state for pages that connect later.
    if (name === "lost") state = null;
    else state = { changed: data.changed ?? state?.changed ?? new Date().toISOString(), error: data.error ?? null };
    for (const page of pages) page.postMessage([name, data]);
  };
  self.onconnect = ({ ports: [page] }) => {
    pages.add(page);
    page.onmessage = () => {
      pages.delete(page);
      if (!pages.size && close) { close(); close = state = null; }
    };
    if (!close) close = stream(notify);
    else if (state) page.postMessage(["hello", state]);
  };
}
