"""The report: its numbers are the catalogue's, its text is harmless, its drawings say what they should."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.catalogue.published import Published
from pipeline.catalogue.query import Catalogue, open_catalogue
from pipeline.models.checkpoint import untrained_checkpoint, write_checkpoint
from pipeline.models.configs.mban import MBANConfig
from pipeline.models.contract import Contract
from pipeline.report.pictures import SUMMARY, AttentionMap, Picture, embedded
from pipeline.report.plots import filled, shares
from pipeline.report.sky import corners, fitting_order, sky_map, visible_order
from pipeline.report.traced import Asked, Traced
from pipeline.storage import Storage
from tests.reported import OUTSIDE, QUOTED, WRITTEN
from tests.runs import call


@pytest.fixture(scope="module")
def seen(reported: Path) -> str:
    """A galaxy that both networks saw."""
    rows = open_catalogue(str(reported)).sql("SELECT min(object_id) AS id FROM catalogue WHERE status = 'ok'")
    return str(rows["id"][0])


@pytest.fixture(scope="module")
def page(reported: Path) -> str:
    return (reported / "report.html").read_text()


def _data(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found.group(1))
    return data


def test_every_table_of_the_page_holds_what_its_query_gives(page: str, reported: Path) -> None:
    ask = Asked(open_catalogue(str(reported)), str(reported), "0")
    checked = 0
    for table, query in _traced_tables(page):
        shown = [
            [_text(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)]
            for row in re.findall(r"<tr>(.*?)</tr>", table)
        ]
        answer = ask(query).dicts()
        if "count_if(flags" in query:
            answer = [{"flag": name, "galaxies": count} for name, count in answer[0].items() if count]
        wanted = [[_written(value) for value in row.values()] for row in answer]
        assert [sorted(filter(None, row)) for row in shown if row] == [sorted(row) for row in wanted], query
        checked += 1
    assert checked >= 5  # statuses, flags, causes, and the classes of two networks


def _traced_tables(page: str) -> list[tuple[str, str]]:
    """Each table of the page that stands before a query, with that query."""
    table, trace = r"<tbody>((?:(?!<tbody>).)*?)</tbody></table>(?:</div>)?", r"<details class=\"trace\">"
    found = re.findall(rf"{table}\s*{trace}.*?<code>pipeline query (.*?)</code>", page, re.DOTALL)
    return [(table, shlex.split(html.unescape(command))[2]) for table, command in found if "--sql" in command]


def _text(cell: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", cell)).replace("\N{THIN SPACE}", "").replace("_", " ")


def _written(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value).replace("_", " ")


def test_every_query_of_the_page_can_be_asked_again(page: str, reported: Path) -> None:
    catalogue = open_catalogue(str(reported))
    queries = [line.split(" --sql ")[1] for line in re.findall(r"<code>(pipeline query .*?)</code>", page, re.DOTALL)]
    assert len(queries) > 15
    assert all(catalogue.sql(shlex.split(html.unescape(query))[0]).num_rows for query in queries)


def test_the_numbers_of_a_map_are_those_of_the_catalogue(page: str, reported: Path) -> None:
    rows = {row["object_id"]: row for row in open_catalogue(str(reported)).to_table().to_pylist()}
    compared = 0
    for galaxy in _data(page)["galaxies"]:
        for found in galaxy["maps"][:2]:
            start = f"{found['name']}_att_"
            wanted = {name: rows[galaxy["id"]][start + name] for name in SUMMARY}
            assert found["numbers"] == {
                name: pytest.approx(value, rel=2e-3, abs=2e-3) for name, value in wanted.items()
            }
            label = rows[galaxy["id"]][f"{found['name']}_label"].replace("_", " ")
            assert found["verdict"] == f"{label} {rows[galaxy['id']][found['name'] + '_confidence']:.2f}"
            compared += 1
    assert compared >= 24


def test_the_crop_of_a_second_branch_is_shown_on_its_map(reported: Path, seen: str, tmp_path: Path) -> None:
    made = untrained_checkpoint("mban", 3, MBANConfig(size=64, crop_size=64, widths=(8, 8, 16, 16), shared=True))
    contract = Contract(**{name: getattr(made, name) for name in Contract.__dataclass_fields__})
    (tmp_path / "mban.safetensors").write_bytes(write_checkpoint(contract, made.weights))
    to = tmp_path / "p.html"
    answer = call(
        "look", str(reported), "--id", seen, "--with", str(tmp_path / "mban.safetensors"), "--to", str(to), "--no-open"
    )
    assert answer.returncode == 0, answer.stderr
    (galaxy,) = _data(to.read_text())["galaxies"]
    x, y, side = next(found["box"] for found in galaxy["maps"] if found["name"] == "mban")
    assert 0 < side <= 1 and side / 2 - 1e-3 <= x <= 1 - side / 2 + 1e-3 and side / 2 - 1e-3 <= y <= 1 - side / 2 + 1e-3
    assert all(found["box"] is None for found in galaxy["maps"] if found["group"] == "Networks")


def test_the_page_needs_nothing_from_anywhere(page: str) -> None:
    addresses = re.findall(r"""(?:src|href)\s*=\s*["']?(?!data:|#)([a-z]+:[^"'\s>]+)""", page.replace("xlink:", ""))
    assert [found for found in addresses if found.startswith(("http", "//", "file"))] == []
    assert "@import" not in page and "url(http" not in page


def test_text_of_the_catalogue_is_never_markup(page: str) -> None:
    assert WRITTEN not in page and QUOTED not in page
    assert "<img src=x" not in page
    assert {galaxy["id"] for galaxy in _data(page)["galaxies"]} >= {WRITTEN, QUOTED}


def test_the_page_says_how_many_failed_and_why(page: str) -> None:
    causes = page.split('id="causes"')[1].split("</table>")[0]
    assert f'<td>no coverage</td><td class="number">{OUTSIDE}</td>' in causes
    assert "far 0" in causes


def test_every_galaxy_of_a_gallery_has_its_image_and_the_maps_of_each_network(page: str) -> None:
    galaxies = _data(page)["galaxies"]
    assert len(galaxies) >= 12
    for galaxy in galaxies:
        names = [found["name"] for found in galaxy["maps"]]
        assert names[:2] == ["dmagnet", "agcnn"]
        assert {"gate 1", "gate 2", "gate 3", "head 1"} <= set(names)
        image = Image.open(io.BytesIO(base64.b64decode(str(galaxy["image"]))))
        assert image.size == (64, 64)


def test_the_galleries_of_mergers_are_in_the_order_of_confidence(page: str, reported: Path) -> None:
    label = open_catalogue(str(reported)).sql("SELECT mode(dmagnet_label) AS l FROM catalogue")["l"][0].as_py()
    order = "ORDER BY dmagnet_confidence, object_id LIMIT 6"
    wanted = open_catalogue(str(reported)).sql(
        f"SELECT object_id FROM catalogue WHERE dmagnet_label = '{label}' {order}"
    )
    place = page.split(f'id="least-sure-{label}"')[1].split(">")[0]
    found = re.search(r"data-ids='(.*?)'", place)
    assert found is not None and json.loads(found.group(1)) == wanted["object_id"].to_pylist()


def test_one_galaxy_is_shown_alone_with_whole_maps(reported: Path, seen: str, tmp_path: Path) -> None:
    answer = call("look", str(reported), "--id", seen, "--to", str(tmp_path / "one.html"), "--no-open")
    assert answer.returncode == 0, answer.stderr
    (galaxy,) = _data((tmp_path / "one.html").read_text())["galaxies"]
    assert galaxy["id"] == seen
    sizes = {found["name"]: found["width"] for found in galaxy["maps"]}
    assert sizes["agcnn"] == 64


def test_a_galaxy_that_is_not_there_is_named(reported: Path) -> None:
    answer = call("look", str(reported), "--id", "nobody", "--no-open")
    assert answer.returncode != 0 and "nobody" in answer.stderr


def test_further_networks_are_compared_beside_those_of_the_run(reported: Path, seen: str, tmp_path: Path) -> None:
    other = f"AG-CNN:softmax={reported.parent / 'agcnn.safetensors'}"
    answer = call("look", str(reported), "--id", seen, "--with", other, "--to", str(tmp_path / "p.html"), "--no-open")
    assert answer.returncode == 0, answer.stderr
    (galaxy,) = _data((tmp_path / "p.html").read_text())["galaxies"]
    maps = {(found["group"], found["name"]): found["levels"] for found in galaxy["maps"]}
    assert maps["AG-CNN", "softmax"] == maps["Networks", "agcnn"]


def test_agcnn_is_shown_with_one_setting_varied_where_nothing_else_is_asked_for(page: str) -> None:
    galaxy = next(found for found in _data(page)["galaxies"] if found["image"])
    settings = {found["name"] for found in galaxy["maps"] if found["group"] == "AG-CNN under other settings"}
    assert settings == {"softmax", "sigmoid", "std", "mix", "mean", "concat", "deep supervised"}  # not both at once


def test_a_network_of_other_images_is_refused_by_name(reported: Path, seen: str) -> None:
    answer = call("look", str(reported), "--id", seen, "--with", "shipped:radio_agcnn", "--no-open")
    assert answer.returncode == 2 and "shipped:radio_agcnn looks at images of 1 planes" in answer.stderr


def test_a_source_that_cannot_be_fetched_again_says_why(reported: Path) -> None:
    answer = call("look", str(reported), "--id", "far 0", "--to", str(reported.parent / "far.html"), "--no-open")
    assert answer.returncode == 0, answer.stderr
    (galaxy,) = _data((reported.parent / "far.html").read_text())["galaxies"]
    assert galaxy["image"] is None and "no" in str(galaxy["reason"])


def test_a_map_is_stretched_between_the_values_that_stand_beside_it() -> None:
    values = np.array([[0.25, 0.5], [0.75, 0.25]], np.float32)
    picture = Picture("a", None, "", float("nan"), (AttentionMap("Networks", "net", values),))
    (shown,) = embedded(picture, {"object_id": "a"})["maps"]
    assert (shown["low"], shown["high"]) == (0.25, 0.75)
    assert list(base64.b64decode(shown["levels"])) == [0, 128, 255, 0]


@pytest.mark.parametrize("order", [0, 3, 8])
def test_the_corners_of_a_pixel_are_those_of_healpix(order: int) -> None:
    from astropy.coordinates import Angle
    from cdshealpix.nested import vertices

    pixels = np.array([0, 5, 4**order * 7 + 1], dtype=np.int64)
    lon, lat = vertices(pixels, order)
    got = corners(order, pixels)
    want = np.stack([Angle(lon).degree, Angle(lat).degree], axis=-1)
    polar = np.abs(want[..., 1]) > 89.9999
    assert np.abs(got[..., 1] - want[..., 1]).max() < 1e-5
    turned = np.abs((got[..., 0] - want[..., 0] + 180) % 360 - 180)
    assert turned[~polar].max() < 1e-4


def test_a_field_across_zero_hours_is_drawn_as_one_field() -> None:
    order = 8
    import healpix

    ra = np.array([359.6, 359.9, 0.1, 0.4])
    pixels = np.unique(healpix.ang2pix(1 << order, ra, np.zeros(4), nest=True, lonlat=True).astype(np.int64))
    drawn = sky_map(order, pixels, np.arange(len(pixels), dtype=float), "galaxies", "across zero")
    assert "mollweide" not in drawn.lower()
    labels = {float(text) for text in re.findall(r">(\d+(?:\.\d+)?)</text>", drawn)}
    assert labels & {359.8, 359.6, 359.9, 359.7} and labels & {0.2, 0.1, 0.3, 0.4}
    assert not labels & {90.0, 180.0}


def test_a_map_has_as_many_cells_as_its_galaxies_can_fill() -> None:
    assert fitting_order([1, 1, 2, 6, 20, 70], 150) == 5
    assert fitting_order([1, 1, 2, 6, 20, 70], 100) == 4
    assert fitting_order([12, 48, 192, 768, 3072], 10**6) == 3
    assert fitting_order([1, 1], 1) == 0


def test_a_map_of_the_whole_sky_has_pixels_that_can_be_seen() -> None:
    import healpix

    ra, dec = np.array([10.0, 150.0, 150.1]), np.array([-5.0, 2.0, 2.1])
    pixels = np.unique(healpix.ang2pix(1 << 11, ra, dec, nest=True, lonlat=True).astype(np.int64))
    assert visible_order(11, pixels) == 5  # 140 degrees across, 150 pixels of 1.8 degrees would be 275
    assert visible_order(11, pixels[-2:]) == 11


def test_shares_by_magnitude_are_drawn_where_a_bin_has_five_galaxies() -> None:
    def counted(*galaxies: int) -> Traced:
        rows = [{"magnitude": 16.5 + n, "class": "round", "galaxies": count} for n, count in enumerate(galaxies)]
        return Traced(pa.Table.from_pylist(rows), "", "")

    assert filled(counted(1, 5)) and not filled(counted(4, 4, 4))


def test_wilson_intervals_are_those_of_the_textbook() -> None:
    found = shares(np.array([81.0]), np.array([263.0]))  # Newcombe 1998, Statist. Med. 17, 857: 0.2553, 0.3662
    assert found.low[0] == pytest.approx(0.2553, abs=1e-4)
    assert found.high[0] == pytest.approx(0.3662, abs=1e-4)


def test_the_commands_of_a_page_hold_no_secret(tmp_path: Path) -> None:
    asked = Asked(Catalogue(Published(Storage(str(tmp_path)), "")), "https://user:secret@host/run?token=secret", "1")
    command = asked.command(Traced(pa.table({}), "SELECT 1", ""))
    assert command == "pipeline query https://host/run --sql 'SELECT 1'"
