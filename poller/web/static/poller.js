// What needs a script: the live feed, the copy buttons, and pages that keep themselves fresh. All else is plain HTML.
"use strict";

const MOST_ROWS = 200;

function live() {
  const place = document.querySelector("[data-live]");
  const list = document.querySelector("ol.events");
  if (!place || !list || !window.EventSource) return;
  const feed = new EventSource(place.dataset.live);
  feed.onopen = () => { place.textContent = "live"; place.classList.add("on"); };
  feed.onerror = () => { place.textContent = "reconnecting…"; place.classList.remove("on"); };
  feed.onmessage = (message) => {
    const made = document.createElement("template");
    made.innerHTML = message.data;
    const row = made.content.firstElementChild;
    const link = row && row.querySelector("a.main");
    if (!link || list.querySelector(`a.main[href="${CSS.escape(link.getAttribute("href"))}"]`)) return;
    list.prepend(row);
    const empty = document.querySelector(".empty");
    if (empty) empty.remove();
    while (list.children.length > MOST_ROWS) list.lastElementChild.remove();
  };
}

function copying() {
  for (const button of document.querySelectorAll("button.copy")) {
    if (!navigator.clipboard) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }
}

function refreshing() {
  const part = document.querySelector("[data-refresh]");
  if (!part) return;
  setInterval(async () => {
    if (document.hidden || part.contains(document.activeElement)) return;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (!answer.ok) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[data-refresh]");
      if (fresh) part.replaceChildren(...fresh.childNodes);
    } catch {
      // The service is away for a moment; the next turn tries again.
    }
  }, 1000 * Number(part.dataset.refresh));
}

live();
copying();
refreshing();
