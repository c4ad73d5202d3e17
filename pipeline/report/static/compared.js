// The maps of one galaxy in numbers, and how like a chosen one each of them is.
const GRID = 32; // cells a side on which two maps are laid over each other
const NUMBERS = [["entropy", "entropy", 2], ["area50", "half in", 2], ["central", "centre", 2], ["sigma_arcsec", "σ, ″", 1], ["offset_arcsec", "offset, ″", 1]];
const MEANINGS = {
  entropy: "1 is an even map", area50: "smallest share of the pixels that holds half of the attention",
  central: "share of the attention within a quarter of the image of its centre",
  sigma_arcsec: "spread of the attention", offset_arcsec: "of the attention's centroid from the source",
};

// A map on the grid, of sum 1, its lowest value taken off where it is below 0.
function shares(map) {
  if (map.shares) return map.shares;
  const values = levels(map);
  const floor = Math.max(0, map.low);
  const found = Float64Array.from({ length: GRID * GRID }, (_, index) => {
    const x = Math.floor(((index % GRID) + 0.5) * map.width / GRID);
    const y = Math.floor((Math.floor(index / GRID) + 0.5) * map.height / GRID);
    return floor + (values[y * map.width + x] / 255) * (map.high - map.low);
  });
  const total = found.reduce((sum, value) => sum + value, 0);
  map.shares = total > 0 ? found.map((value) => value / total) : found.fill(1 / found.length);
  return map.shares;
}

// SIM, the histogram intersection: 1 for the same map, 0 for maps that share no pixel (Bylinskii et al. 2019).
function similarity(one, other) {
  const [p, q] = [shares(one), shares(other)];
  return p.reduce((sum, value, index) => sum + Math.min(value, q[index]), 0);
}

function compared(galaxy) {
  if (!galaxy.image || galaxy.maps.length < 2) return [];
  const reference = galaxy.maps[Math.min(state.reference, galaxy.maps.length - 1)];
  const number = (value, digits) => (value === null || value === undefined ? "–" : Number(value).toFixed(digits));
  const cell = (textContent) => element("td", { className: "number", textContent });
  const rows = galaxy.maps.map((map, index) => {
    const name = element("button", { type: "button", textContent: map.group === "Networks" ? map.name : `${map.group}: ${map.name}`, title: "compare the others with this map" });
    name.addEventListener("click", () => choose(index));
    const row = element("tr", {}, element("td", {}, name), element("td", { textContent: map.verdict || "" }),
      ...NUMBERS.map(([key, , digits]) => cell(number(map.numbers[key], digits))), cell(similarity(map, reference).toFixed(2)));
    if (map === reference) row.setAttribute("aria-current", "true");
    return row;
  });
  const heads = NUMBERS.map(([key, title]) => element("th", { className: "number", textContent: title, title: MEANINGS[key] }));
  const like = element("th", { className: "number", textContent: "SIM", title: "similarity to the chosen map: 1 is the same map, 0 shares no pixel with it" });
  const head = element("tr", {}, element("th", { textContent: "Map" }), element("th", { textContent: "It says" }), ...heads, like);
  const table = element("table", { className: "compared" }, element("thead", {}, head), element("tbody", {}, ...rows));
  return [element("h3", { textContent: `The maps in numbers; SIM is the similarity to ${reference.name}, choose another in the first column` }), element("div", { className: "scroll" }, table)];
}

function choose(index) {
  const place = panels.scrollTop;
  state.reference = index;
  panels.querySelector(".compared").closest(".scroll").previousSibling.remove();
  panels.querySelector(".compared").closest(".scroll").remove();
  panels.append(...compared(current()));
  panels.scrollTop = place;
  panels.querySelector("[aria-current] button").focus();
}
