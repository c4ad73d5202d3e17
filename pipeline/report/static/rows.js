// The table of rows: filtered and sorted in the page.
const PAGE = 25;
const place = document.querySelector("#rows");
if (place) {
  const { columns, rows } = DATA.rows;
  const at = new Map(columns.map((name, index) => [name, index]));
  const body = place.querySelector("tbody");
  const count = document.querySelector("#rows-count");
  const more = document.querySelector("#rows-more");
  const filters = [...document.querySelectorAll(".filters [data-column]")];
  let order = { column: null, down: false };
  let length = PAGE;

  const passes = (row) => filters.every((filter) => {
    if (filter.value === "") return true;
    const value = row[at.get(filter.dataset.column)];
    if (filter.dataset.kind === "bits") return (Number(value) & Number(filter.value)) !== 0;
    return filter.dataset.kind === "equal" ? value === filter.value : String(value).includes(filter.value);
  });
  const compare = (one, other) => {
    const [a, b] = [one[order.column], other[order.column]];
    if (a === null || b === null) return (a === null) - (b === null);
    const numbers = typeof a === "number" && typeof b === "number";
    const sign = numbers ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
    return order.down ? -sign : sign;
  };
  const flagged = (bits) => DATA.flags.filter(([, bit]) => (Number(bits) & bit) !== 0).map(([name]) => said(name)).join(", ");
  const cell = (row) => (value, index) => {
    if (columns[index] === "flags") return element("td", { textContent: shown(flagged(value)) });
    if (index > 0 || !GALAXIES.has(value)) return element("td", { className: typeof value === "number" ? "number" : "", textContent: columns[index] === "status" ? said(value) : shown(value) });
    const open = element("button", { type: "button", textContent: value, title: "compare its maps" });
    open.addEventListener("click", () => openViewer(row[0], [...GALAXIES.keys()]));
    return element("td", {}, open);
  };
  const draw = () => {
    const found = rows.filter(passes);
    if (order.column !== null) found.sort(compare);
    body.replaceChildren(...found.slice(0, length).map((row) => element("tr", {}, ...row.map(cell(row)))));
    count.textContent = `${found.length} of ${rows.length} rows`;
    more.hidden = found.length <= length;
  };
  filters.forEach((filter) => filter.addEventListener("input", () => { length = PAGE; draw(); }));
  more.addEventListener("click", () => { length += 4 * PAGE; draw(); });
  place.querySelectorAll("th button").forEach((button, index) => button.addEventListener("click", () => {
    order = { column: index, down: order.column === index && !order.down };
    draw();
  }));
  draw();
}
