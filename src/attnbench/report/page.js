"use strict";

/* Sort a table by the column whose heading was pressed; numbers as numbers, and what is empty last. */
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const way = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", way === 1 ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent;
    const empty = (value) => value === "" || value === "nan" || value === "None";
    const rows = [...table.tBodies[0].rows].sort((one, two) => {
      const [a, b] = [key(one), key(two)];
      if (empty(a) || empty(b)) return empty(a) - empty(b);
      return way * (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
    });
    table.tBodies[0].append(...rows);
  }));
}

/* What the page holds packed, as text. */
async function unpacked(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
}

/* A button that saves a table or a figure as a file. */
function saver(place, name, type, title, text) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "save";
  button.textContent = `Save ${type}`;
  button.setAttribute("aria-label", `Save ${type}: ${title}`);
  button.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text()]));
    link.download = `${name}.${type.toLowerCase()}`;
    link.click();
    URL.revokeObjectURL(link.href);
  });
  place.after(button);
}

/* A cell of a table for a spreadsheet, which would run what begins like a formula. */
function field(cell) {
  const text = cell.innerText.trim().replace(/\s+/g, " ");
  const safe = /^[=+\-@]/.test(text) && isNaN(text) ? `'${text}` : text;
  return `"${safe.replaceAll('"', '""')}"`;
}

document.querySelectorAll("table").forEach((table, place) => saver(
  table.parentElement, `table-${place + 1}`, "CSV", table.caption?.textContent.split(".")[0] ?? "table",
  () => [...table.rows].map((row) => [...row.cells].map(field).join(",")).join("\n"),
));

function svg(place) {
  const copy = place.querySelector("svg").cloneNode(true);
  copy.setAttribute("style", "color: black; background: white");
  return new XMLSerializer().serializeToString(copy);
}

/* Draw the figures one after the other once the page can be read, and those below a closed heading when it is opened. */
(async () => {
  const figures = [...document.querySelectorAll("[data-figure]")];
  const hidden = (place) => place.closest("details:not([open])");
  if (figures.length) {
    const script = document.createElement("script");
    script.textContent = await unpacked("vega");
    document.head.append(script);
  }
  const specs = figures.length ? JSON.parse(await unpacked("specs")) : {};
  async function drawn() {
    for (const place of figures.filter((one) => !one.dataset.begun && !hidden(one))) {
      place.dataset.begun = "yes";
      await new Promise((ready) => setTimeout(ready));
      await vegaEmbed(place, specs[place.dataset.figure], { actions: false, renderer: "svg", ast: true });
      place.dataset.done = "yes";
      saver(place, place.dataset.figure, "SVG", place.parentElement.querySelector("h3").textContent, () => svg(place));
    }
    document.documentElement.dataset.drawn = figures.every((one) => one.dataset.done) ? "all" : "open";
  }
  let turn = Promise.resolve();
  const draw = () => { turn = turn.then(drawn); };
  const open = (places) => places.forEach((place) => { place.open = true; });
  const reveal = () => open(document.querySelectorAll(`[id="${CSS.escape(location.hash.slice(1))}"] > details.cell`));
  document.addEventListener("toggle", draw, true);
  addEventListener("hashchange", reveal);
  addEventListener("beforeprint", () => open(document.querySelectorAll("details.cell, details.sentences")));
  reveal();
  draw();
})();
