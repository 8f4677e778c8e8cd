"use strict";
// Keys, on every page. Everything works without this file; it only makes reading faster.

const labeler = { root: document.body.dataset.root };

{ // a scope of its own: names of one file do not meet those of another
  // A list that was left for a unit is remembered, so that j and k walk through it and Escape goes back to it.
  labeler.remember = (hrefs, hash) => {
    try {
      sessionStorage.setItem("labeler-list", JSON.stringify({ hrefs, hash }));
    } catch { /* storage is switched off: j and k walk through the layer instead */ }
  };

  labeler.remembered = () => {
    try {
      return JSON.parse(sessionStorage.getItem("labeler-list")) || { hrefs: [], hash: "" };
    } catch {
      return { hrefs: [], hash: "" };
    }
  };

  const typing = (target) => target.closest("input, select, textarea, [contenteditable]") !== null;

  const cards = () => [...document.querySelectorAll("[data-list] .card")].filter((card) => card.offsetParent);

  function columns(all) {
    const top = all[0].offsetTop;
    const below = all.findIndex((card) => card.offsetTop > top);
    return below < 0 ? all.length : below;
  }

  function step(key, all, at) {
    if (at < 0) return 0;
    const row = key === "ArrowDown" || key === "ArrowUp" ? columns(all) : 1;
    const back = key === "k" || key === "ArrowUp" || key === "ArrowLeft";
    return Math.min(Math.max(at + (back ? -row : row), 0), all.length - 1);
  }

  function move(event) {
    const all = cards();
    const at = all.indexOf(document.activeElement);
    const arrow = event.key.startsWith("Arrow");
    if (!all.length || (arrow && at < 0)) return; // arrows scroll until a unit is chosen
    event.preventDefault();
    const next = all[step(event.key, all, at)];
    next.focus();
    next.scrollIntoView({ block: "nearest" });
  }

  // The unit beside this one: in the list it was opened from, else in its layer.
  function beside(back) {
    const { hrefs } = labeler.remembered();
    const here = hrefs.findIndex((href) => location.pathname.endsWith(`/${href}`));
    const href = here < 0 ? undefined : hrefs[here + (back ? -1 : 1)];
    if (href !== undefined) return labeler.root + href;
    const link = document.querySelector(back ? 'a[rel~="prev"]' : 'a[rel~="next"]');
    return link && link.href;
  }

  function turn(event) {
    const back = event.key === "k" || event.key === "ArrowLeft";
    const href = beside(back);
    if (!href) return;
    event.preventDefault();
    location.href = href;
  }

  function leave() {
    const up = document.querySelector('a[rel~="up"]');
    const { hrefs, hash } = labeler.remembered();
    const from = hrefs.some((href) => location.pathname.endsWith(`/${href}`));
    if (from) location.href = `${labeler.root}index.html${hash}`;
    else if (up) location.href = up.href;
  }

  function search(event) {
    event.preventDefault();
    const field = document.getElementById("q");
    if (field) field.focus();
    else location.href = `${labeler.root}index.html#search`;
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const unit = document.querySelector(".beside") !== null;
    if (typing(event.target)) {
      if (event.key === "Escape") event.target.blur();
    } else if (event.key === "/") search(event);
    else if (event.key === "Escape") unit ? leave() : document.activeElement.blur();
    else if (["j", "k", "ArrowLeft", "ArrowRight"].includes(event.key) && unit) turn(event);
    else if (["j", "k"].includes(event.key) || event.key.startsWith("Arrow")) move(event);
  });

  document.addEventListener("click", (event) => {
    if (!event.target.closest(".card")) return;
    const hrefs = cards().map((card) => card.dataset.href || card.getAttribute("href").replace(/^(\.\.\/)+/, ""));
    labeler.remember(hrefs, document.getElementById("q") ? location.hash || "#units" : "");
  });
}
