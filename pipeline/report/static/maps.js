// The page's data, and attention maps as pixels.
const DATA = JSON.parse(document.querySelector("#data").textContent);
const GALAXIES = new Map(DATA.galaxies.map((galaxy) => [galaxy.id, galaxy]));
const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
const TABLES = new Map(Object.entries(DATA.colours).map(([name, text]) => [name, bytes(text)]));
const jpeg = (galaxy) => `data:image/jpeg;base64,${galaxy.image}`;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

function levels(map) {
  map.bytes ??= bytes(map.levels);
  return map.bytes;
}

// At strength 1 the map alone; below it the image shines through, most where the attention is low.
function paint(canvas, map, table, strength) {
  canvas.width = map.width;
  canvas.height = map.height;
  const pixels = new ImageData(map.width, map.height);
  levels(map).forEach((level, index) => {
    pixels.data.set(table.subarray(3 * level, 3 * level + 3), 4 * index);
    pixels.data[4 * index + 3] = 255 * strength * (strength + (1 - strength) * (level / 255));
  });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

const said = (name) => name.replaceAll("_", " ");
const shown = (value) => (value === null || value === undefined || value === "" ? "–" : String(value));
