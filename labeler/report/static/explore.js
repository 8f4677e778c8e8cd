"use strict";
// Search and filters on the first page. Where the units come from is labeler.find, which another file gives:
// labeler.find(state, report) calls report({rows, total, done}) as often as it knows more.

{ // a scope of its own: names of one file do not meet those of another
  const PAGE = 60;
  const FIELDS = ["q", "layer", "verdict", "trust", "order"];
  const field = (name) => document.getElementById(name);
  const fresh = () => ({ q: "", layer: "", verdict: "", trust: "", order: "unit", page: 1 });

  let asked = 0; // answers to earlier questions are dropped
  let pending = 0; // a timer: one question for a word, not one for each of its letters
  let looking = Promise.resolve(); // the answer to the last question

  function read() {
    const state = fresh();
    for (const name of FIELDS) state[name] = field(name).value.trim();
    return state;
  }

  function fromHash() {
    const state = fresh();
    const given = new URLSearchParams(location.hash.slice(1));
    for (const name of FIELDS) if (given.has(name)) state[name] = given.get(name);
    state.page = Math.max(1, Number.parseInt(given.get("page"), 10) || 1);
    return state;
  }

  function toHash(state) {
    const set = Object.entries(state).filter(([name, value]) => value !== fresh()[name]);
    return set.length ? `#${new URLSearchParams(set)}` : "#units";
  }

  function element(tag, kind, text) {
    const made = document.createElement(tag);
    if (kind) made.className = kind;
    if (text !== undefined) made.textContent = text; // never as HTML: labels are what a model wrote
    return made;
  }

  function picture(name, alt, instead) {
    if (!name) return element("span", "none", instead);
    const image = element("img");
    image.loading = "lazy";
    image.alt = alt;
    image.src = `${labeler.root}images/${encodeURIComponent(name)}`;
    return image;
  }

  function texts(kind, values) {
    const line = element("span", kind);
    values.forEach((value, at) => {
      if (at) line.append("; ");
      line.append(element("bdi", "", value));
    });
    return line;
  }

  const number = (value) => (value === null ? "–" : String(Number(value.toPrecision(3))));
  const words = (name) => name.replaceAll("_", " ");

  labeler.card = (row) => {
    const link = element("a", "card");
    link.href = labeler.root + row.href;
    link.dataset.href = row.href;
    const pair = element("span", "pair");
    pair.append(
      picture(row.photograph, `strongest image of ${row.unit}`, "no photograph"),
      picture(row.picture, `synthetic picture of ${row.unit}`, "no picture"),
    );
    const name = element("span", "name");
    name.append(element("bdi", "", row.unit), " ", element("span", `badge ${row.verdict}`, words(row.verdict)));
    const labels = row.labels.length ? texts("label", row.labels) : element("span", "label dim", "no accepted label");
    const more = element("span", "more");
    if (row.refused) more.append("refused: ", element("bdi", "", row.refused), " ");
    if (row.name) more.append(element("bdi", "", row.name));
    const numbers = element("span", "more", `score ${number(row.score)} · picture: ${words(row.trust)}`);
    link.append(pair, name, labels, more, numbers);
    return link;
  };

  function pager(state, total) {
    const last = Math.max(1, Math.ceil(total / PAGE));
    const bar = field("pager");
    bar.hidden = last < 2;
    const button = (text, page, off) => {
      const made = element("button", "", text);
      made.type = "button";
      made.disabled = off;
      made.addEventListener("click", () => go({ ...state, page }, true));
      return made;
    };
    bar.replaceChildren(
      button("← previous", state.page - 1, state.page <= 1),
      element("span", "", `page ${state.page} of ${last}`),
      button("next →", state.page + 1, state.page >= last),
    );
  }

  function show(state, { rows, total, done, error }) {
    const results = field("results");
    const focused = document.activeElement && document.activeElement.dataset.href;
    results.replaceChildren(...rows.map(labeler.card));
    if (focused) results.querySelector(`[data-href="${CSS.escape(focused)}"]`)?.focus();
    const count = `${total} unit${total === 1 ? "" : "s"}`;
    field("found").textContent = error || (done ? count : `${count} so far, still searching …`);
    if (done) pager(state, total);
  }

  async function look(state) {
    const mine = ++asked;
    const all = toHash(state) === "#units";
    field("results").hidden = all;
    field("sample").hidden = !all;
    if (all) {
      field("pager").hidden = true;
      field("found").textContent = "";
      return;
    }
    try {
      await labeler.find({ ...state, size: PAGE }, (found) => mine === asked && show(state, found));
    } catch (error) {
      if (mine === asked) show(state, { rows: [], total: 0, done: true, error: `The search failed: ${error.message}` });
    }
  }

  // Typing replaces the page's address; a page of the result is a step to go back from.
  function go(state, remember) {
    history[remember ? "pushState" : "replaceState"](null, "", toHash(state));
    if (remember) field("units").scrollIntoView();
    looking = look(state);
  }

  function ask() {
    clearTimeout(pending);
    pending = 0;
    go(read());
  }

  function fill(state) {
    for (const name of FIELDS) field(name).value = state[name];
    if (field("order").value === "") field("order").value = "unit";
  }

  function enter(event) {
    if (event.key === "Enter") {
      event.preventDefault();
      if (pending) ask();
      looking.then(() => document.querySelector("#results .card")?.focus());
    } else if (event.key === "Escape" && field("q").value) {
      event.preventDefault();
      field("q").value = "";
      go(read());
    }
  }

  function begin() {
    field("filters").hidden = false;
    for (const name of FIELDS) {
      field(name).addEventListener("input", () => {
        clearTimeout(pending);
        pending = setTimeout(ask, name === "q" ? 120 : 0);
      });
    }
    field("q").addEventListener("keydown", enter);
    field("clear").addEventListener("click", () => {
      fill(fresh());
      go(fresh());
      field("q").focus();
    });
    window.addEventListener("popstate", start);
    window.addEventListener("hashchange", start);
    start();
    if (toHash(fromHash()) !== "#units") field("units").scrollIntoView();
  }

  function start() {
    const state = fromHash();
    fill(state);
    looking = look(state);
    if (location.hash === "#search") {
      field("units").scrollIntoView();
      field("q").focus();
    }
    document.documentElement.dataset.ready = "yes";
  }

  document.addEventListener("DOMContentLoaded", begin);
}
