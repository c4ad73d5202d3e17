// The comparison of attention maps: every network, gate and setting side by side over one galaxy.
const dialog = document.querySelector("#viewer");
const stage = dialog.querySelector(".viewer");
const panels = dialog.querySelector(".panels");
const facts = dialog.querySelector(".facts");
const strength = dialog.querySelector("#strength");
const colours = dialog.querySelector("#colours");
const state = { ids: [], index: 0, cells: [], reference: 0 };

const current = () => GALAXIES.get(state.ids[state.index]);

function openViewer(id, ids) {
  state.ids = ids;
  state.index = Math.max(0, ids.indexOf(id));
  if (!dialog.open) dialog.showModal();
  show();
}

function show() {
  const galaxy = current();
  dialog.querySelector("#viewer-title").textContent = galaxy.id;
  dialog.querySelector("#viewer-place").textContent = `${state.index + 1} of ${state.ids.length}`;
  state.cells = [];
  panels.replaceChildren(...sections(galaxy), ...compared(galaxy));
  facts.replaceChildren(...about(galaxy));
  repaint();
}

function sections(galaxy) {
  if (!galaxy.image) return [element("p", { className: "muted", textContent: `No image: ${galaxy.reason || galaxy.row.status}` })];
  const groups = new Map([["", []]]);
  galaxy.maps.forEach((map) => groups.set(map.group, [...(groups.get(map.group) ?? []), map]));
  groups.delete("");
  if (!groups.size) return [element("div", { className: "row large" }, panel(galaxy, null))];
  return [...groups].flatMap(([group, maps], index) => {
    const cells = maps.map((map) => panel(galaxy, map));
    if (index === 0) cells.unshift(panel(galaxy, null));
    const kind = index === 0 ? "row large" : maps.length === 16 ? "row four" : "row";
    return [element("h3", { textContent: group }), element("div", { className: kind }, ...cells)];
  });
}

function panel(galaxy, map) {
  const canvas = map ? element("canvas") : null;
  const value = element("span");
  const lines = ["h", "v"].map((className) => element("span", { className }));
  const stack = element("div", { className: "stack" }, element("img", { src: jpeg(galaxy), alt: "" }), canvas, cropped(map), ...lines);
  stack.addEventListener("pointermove", (event) => point(event, stack));
  stack.addEventListener("pointerleave", leave);
  const cell = { map, canvas, value };
  state.cells.push(cell);
  rest(cell);
  const name = element("span", { textContent: map ? map.name : "what they saw" });
  return element("figure", { className: "panel" }, stack, element("figcaption", {}, name, value));
}

// What a network with a second branch looked at again.
function cropped(map) {
  if (!map?.box) return null;
  const [x, y, side] = map.box.map((value) => 100 * value);
  const frame = element("span", { className: "crop", title: "what the second branch saw" });
  Object.assign(frame.style, { left: `${x - side / 2}%`, top: `${y - side / 2}%`, width: `${side}%`, height: `${side}%` });
  return frame;
}

// Without the pointer: the range of the map's own values.
function rest(cell) {
  const width = current().fov;
  const short = (value) => Number(value.toPrecision(3)).toString();
  if (!cell.map) cell.value.textContent = width ? `${width.toFixed(1)}″ wide, N up, E left` : "";
  else cell.value.textContent = cell.map.high > cell.map.low ? `${short(cell.map.low)} – ${short(cell.map.high)}` : "flat";
}

function leave() {
  stage.classList.remove("pointing");
  state.cells.forEach(rest);
}

// One cross-hair on every panel, each with its map's value there; the image says where that is on the sky.
function point(event, stack) {
  const box = stack.getBoundingClientRect();
  const inside = (value) => Math.min(0.999, Math.max(0, value));
  const x = inside((event.clientX - box.left) / box.width);
  const y = inside((event.clientY - box.top) / box.height);
  stage.style.setProperty("--x", `${100 * x}%`);
  stage.style.setProperty("--y", `${100 * y}%`);
  stage.classList.add("pointing");
  const width = current().fov;
  state.cells.forEach(({ map, value }) => {
    if (map) {
      const level = levels(map)[Math.floor(y * map.height) * map.width + Math.floor(x * map.width)] / 255;
      value.textContent = (map.low + level * (map.high - map.low)).toPrecision(3);
    } else if (width) value.textContent = `${offset((0.5 - x) * width, "E", "W")}, ${offset((0.5 - y) * width, "N", "S")}`;
  });
}

const offset = (arcsec, positive, negative) => `${Math.abs(arcsec).toFixed(1)}″ ${arcsec >= 0 ? positive : negative}`;

function repaint() {
  const table = TABLES.get(colours.value);
  state.cells.filter((cell) => cell.map).forEach((cell) => paint(cell.canvas, cell.map, table, Number(strength.value)));
}

function about(galaxy) {
  const { row } = galaxy;
  const own = Object.entries(row).filter(([name]) => !DATA.networks.some(({ prefix }) => name.startsWith(`${prefix}_`)));
  const keys = [["← →", "galaxy"], ["↑ ↓", "opacity"], ["c", "colours"], ["Esc", "close"]];
  return [...DATA.networks.flatMap((network) => opinion(row, network)), element("h3", { textContent: "Source" }), list(own),
    element("h3", { textContent: "Keys" }), list(keys)];
}

function opinion(row, { prefix, classes }) {
  const label = row[`${prefix}_label`];
  const head = element("h3", { textContent: `${prefix}: ${label ? said(label) : "no label"}` });
  if (!label) return [head];
  const bars = classes.map((name) => {
    const p = Number(row[`${prefix}_p_${name}`]);
    const bar = element("i");
    bar.style.width = `${100 * p}%`;
    return element("div", { className: "probability" }, element("span", { textContent: said(name) }), bar, element("b", { textContent: p.toFixed(2) }));
  });
  const start = `${prefix}_att_`;
  const looked = Object.entries(row).filter(([name]) => name.startsWith(start)).map(([name, value]) => [name.slice(start.length), value]);
  const numbers = element("details", {}, element("summary", { textContent: "where it looked" }), list(looked));
  return [head, ...bars, numbers];
}

const list = (pairs) => element("dl", {}, ...pairs.flatMap(([name, value]) => [element("dt", { textContent: said(name) }), element("dd", { textContent: shown(value) })]));

function step(by) {
  state.index = (state.index + by + state.ids.length) % state.ids.length;
  show();
}

Object.keys(DATA.colours).forEach((name) => colours.append(element("option", { value: name, textContent: name })));
strength.addEventListener("input", repaint);
colours.addEventListener("input", repaint);
dialog.querySelector("#previous").addEventListener("click", () => step(-1));
dialog.querySelector("#next").addEventListener("click", () => step(1));
dialog.querySelector("#close").addEventListener("click", () => dialog.close());
const nudge = (by) => { strength.value = Number(strength.value) + by; repaint(); };
const turn = () => { colours.selectedIndex = (colours.selectedIndex + 1) % colours.length; repaint(); };
const KEYS = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), ArrowUp: () => nudge(0.1), ArrowDown: () => nudge(-0.1), c: turn };
dialog.addEventListener("keydown", (event) => {
  const act = KEYS[event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act();
});
if (DATA.open) openViewer(DATA.open, [...GALAXIES.keys()]);
