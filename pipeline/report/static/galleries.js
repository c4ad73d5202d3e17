// Thumbnails: the galaxy, its first map on hover, the comparison on click.
function caption(galaxy) {
  const network = DATA.networks[0];
  const label = network ? galaxy.row[`${network.prefix}_label`] : null;
  const sure = network ? galaxy.row[`${network.prefix}_confidence`] : null;
  return [label ? said(label) : galaxy.row.status, sure === null ? "" : Number(sure).toFixed(2)];
}

function thumb(galaxy, ids) {
  const [label, sure] = caption(galaxy);
  const made = element("button", { className: "thumb", type: "button", title: galaxy.id });
  made.setAttribute("aria-label", `galaxy ${galaxy.id}, ${label} ${sure}`);
  if (galaxy.image) made.append(element("img", { src: jpeg(galaxy), alt: "", loading: "lazy" }));
  else made.append(element("span", { className: "none", textContent: galaxy.reason || "no image" }));
  if (galaxy.image && galaxy.maps.length) {
    const canvas = element("canvas");
    const reveal = () => paint(canvas, galaxy.maps[0], TABLES.get("viridis"), 0.6);
    made.addEventListener("pointerenter", reveal, { once: true });
    made.addEventListener("focus", reveal, { once: true });
    made.append(canvas);
  }
  const words = [label, sure].map((textContent) => element("span", { textContent }));
  made.append(element("span", { className: "caption" }, ...words));
  made.addEventListener("click", () => openViewer(galaxy.id, ids));
  return made;
}

document.querySelectorAll(".gallery").forEach((place) => {
  const ids = JSON.parse(place.dataset.ids).filter((id) => GALAXIES.has(id));
  place.append(...ids.map((id) => thumb(GALAXIES.get(id), ids)));
});
