"use strict";
// The server's events for the pages. Browsers allow six connections to a server, and a stream of events holds one for
// as long as it is open: the seventh tab would wait for ever. So all tabs share one stream, in a shared worker, which
// this file is as well; a browser without such workers opens one stream a tab, while the tab is looked at.

function stream(tell) {
  let events = null, retry = 0;
  const open = () => {
    events = new EventSource("/live");
    for (const name of ["hello", "changed", "down", "up"]) events.addEventListener(name, (event) => tell(name, JSON.parse(event.data)));
    events.onerror = () => {
      tell("lost", {});
      // Anything but a stream as the answer, such as a proxy's 502, ends it for good: begin anew.
      if (events.readyState === EventSource.CLOSED) retry = setTimeout(open, 3000);
    };
  };
  open();
  return () => { clearTimeout(retry); events.close(); };
}

if (typeof SharedWorkerGlobalScope !== "undefined") {
  const pages = new Set();
  let close = null, state = null;
  const tell = (name, data) => {
    // What a page is told that comes later.
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
    if (!close) close = stream(tell);
    else if (state) page.postMessage(["hello", state]);
  };
}
