"use strict";
// Units for explore.js from the server, which reads the catalogue as it is now.

{ // a scope of its own: names of one file do not meet those of another
  async function ask(path) {
    const answer = await fetch(labeler.root + path, { headers: { accept: "application/json" } });
    const data = await answer.json();
    if (!answer.ok) throw new Error(data.error);
    return data;
  }

  labeler.find = async (state, report) => {
    const offset = (state.page - 1) * state.size;
    const question = new URLSearchParams({ limit: state.size, offset, order: state.order });
    for (const name of ["q", "layer", "verdict", "trust"]) if (state[name]) question.set(name, state[name]);
    const found = await ask(`api/units?${question}`);
    const labels = (unit) => unit.labels.map((label) => label.text);
    const rows = found.units.map((unit) => ({ ...unit, href: unit.page, labels: labels(unit) }));
    report({ rows, total: found.total, done: true });
  };

  // A run that goes on: say how far it is, without changing what the reader looks at.
  async function follow() {
    const line = document.getElementById("progress");
    if (!line) return;
    try {
      const state = await ask("api/status");
      const more = state.with_verdict - Number(line.dataset.units);
      const fresh = more > 0 ? ` ${more} more than on this page: load it again to see them.` : "";
      line.textContent = state.with_verdict < state.units || more > 0 ? `${state.progress}${fresh}` : "";
      if (state.with_verdict >= state.units) return;
    } catch {
      line.textContent = "The server does not answer.";
    }
    setTimeout(follow, 5000);
  }

  follow();
}
