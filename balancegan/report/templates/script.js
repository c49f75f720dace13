"use strict";
/* Two conveniences; the page is complete without them: sortable tables, and a slider for the frames. */
(() => {
  const status = document.getElementById("status");

  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.sort ?? cell.textContent.trim();
  };

  function sort(table, column, direction) {
    const rows = [...table.tBodies[0].rows];
    const filled = rows.map((row) => value(row, column)).filter((text) => text !== "");
    const numeric = filled.length > 0 && filled.every((text) => Number.isFinite(Number(text)));
    const compare = (a, b) => {
      const [x, y] = [value(a, column), value(b, column)];
      if (x === "" || y === "") return (x === "") - (y === ""); // not measured: last in both directions
      return direction * (numeric ? x - y : x.localeCompare(y, undefined, { numeric: true }));
    };
    table.tBodies[0].append(...rows.sort(compare));
  }

  function press(table, heads, th) {
    const down = th.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    th.setAttribute("aria-sort", down ? "descending" : "ascending");
    sort(table, th.cellIndex, down ? -1 : 1);
    status.textContent = `Sorted by ${th.textContent.trim()}, ${down ? "descending" : "ascending"}`;
  }

  for (const table of document.querySelectorAll("table.sort")) {
    if (table.tBodies[0].rows.length < 2) continue;
    // On a phone the rows are laid out as blocks, which removes the table semantics; restore them with roles.
    table.setAttribute("role", "table");
    for (const part of table.querySelectorAll("thead, tbody")) part.setAttribute("role", "rowgroup");
    for (const row of table.rows) row.setAttribute("role", "row");
    for (const cell of table.querySelectorAll("td")) cell.setAttribute("role", "cell");
    for (const cell of table.querySelectorAll("tbody th")) cell.setAttribute("role", "rowheader");
    const heads = [...table.tHead.rows[0].cells];
    for (const th of heads) {
      th.setAttribute("role", "columnheader");
      const button = document.createElement("button");
      button.type = "button";
      button.append(...th.childNodes);
      button.addEventListener("click", () => press(table, heads, th));
      th.append(button);
    }
    table.classList.add("sorts");
  }

  for (const box of document.querySelectorAll(".frames")) {
    const slider = box.querySelector("input");
    if (!slider) continue;
    const frames = [...box.querySelectorAll(".frame")];
    const show = () => {
      frames.forEach((frame, k) => frame.classList.toggle("now", k === Number(slider.value)));
      const label = frames[slider.value].dataset.label;
      box.querySelector("output").textContent = label;
      slider.setAttribute("aria-valuetext", label);
    };
    slider.value = frames.length - 1; // browsers restore the old position on reload
    slider.addEventListener("input", show);
    box.querySelector(".slider").hidden = false;
    box.classList.add("live");
    show();
  }
})();
