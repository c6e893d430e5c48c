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

/* Draw the figures one after the other once the page can be read; nothing is fetched and nothing is compiled. */
(async () => {
  const specs = JSON.parse(document.getElementById("specs").textContent);
  for (const place of document.querySelectorAll("[data-figure]")) {
    await new Promise((ready) => setTimeout(ready));
    await vegaEmbed(place, specs[place.dataset.figure], { actions: false, renderer: "svg", ast: true });
  }
  document.documentElement.dataset.drawn = "all";
})();
