"use strict";
// Units for explore.js from the data files beside the page: scripts, as a page on a disk may not fetch.

{ // a scope of its own: names of one file do not meet those of another
  let manifest = { verdicts: [], trusts: [], chunks: [] };
  const waiting = new Map(); // number of a chunk -> {promise, take}

  labeler.manifest = (found) => {
    manifest = found;
  };

  labeler.chunk = (number, rows) => {
    waiting.get(number).take(rows.map(unpack));
  };

  function unpack([unit, name, href, verdict, labels, refused, score, trust, photograph, picture]) {
    const sought = [unit, name, ...labels].join("\n").toLowerCase();
    return {
      unit, name, href, labels, refused, score, photograph, picture, sought,
      verdict: manifest.verdicts[verdict], trust: manifest.trusts[trust],
    };
  }

  function load(number) {
    if (waiting.has(number)) return waiting.get(number).promise;
    const entry = {};
    entry.promise = new Promise((take, fail) => {
      entry.take = take;
      const script = document.createElement("script");
      script.src = `${labeler.root}data/chunk-${number}.js`;
      script.addEventListener("error", () => {
        waiting.delete(number);
        fail(new Error(`data/chunk-${number}.js is missing; build the report again.`));
      });
      script.addEventListener("load", () => script.remove());
      document.head.append(script);
    });
    waiting.set(number, entry);
    return entry.promise;
  }

  const may = (chunk, state) =>
    (!state.layer || chunk.layer === state.layer) &&
    (!state.verdict || chunk.verdicts[state.verdict] > 0) &&
    (!state.trust || chunk.trusts[state.trust] > 0);

  const fits = (row, state, sought) =>
    (!state.verdict || row.verdict === state.verdict) &&
    (!state.trust || row.trust === state.trust) &&
    (!sought || row.sought.includes(sought));

  // Like the server: without a score last when the best come first, and left out when the worst do.
  function arrange(rows, order) {
    if (order === "best") return rows.sort((a, b) => (b.score ?? -Infinity) - (a.score ?? -Infinity));
    if (order === "worst") return rows.filter((row) => row.score !== null).sort((a, b) => a.score - b.score);
    return rows;
  }

  labeler.find = async (state, report) => {
    const sought = state.q.toLowerCase();
    const first = (state.page - 1) * state.size;
    const page = (rows) => rows.slice(first, first + state.size);
    const numbers = [...manifest.chunks.keys()].filter((number) => may(manifest.chunks[number], state));
    const found = [];
    let early = state.order === "unit"; // a page in the order of the files is known before all are read
    let next = numbers.length ? load(numbers[0]) : null;
    for (let at = 0; at < numbers.length; at += 1) {
      const rows = await next;
      next = at + 1 < numbers.length ? load(numbers[at + 1]) : null; // one ahead: reading and searching overlap
      for (const row of rows) if (fits(row, state, sought)) found.push(row);
      if (early && next && found.length >= first + state.size) {
        report({ rows: page(found), total: found.length, done: false });
        early = false;
      }
    }
    const all = arrange(found, state.order);
    report({ rows: page(all), total: all.length, done: true });
  };
}
