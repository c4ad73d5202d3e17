"""What a snapshot comes with: margin, index, sample, completeness, documents; and which snapshots stay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.catalogue.documents import Creator, Publication, Release, datacite, documents
from pipeline.catalogue.hats import finalise
from pipeline.catalogue.margins import MARGIN
from pipeline.catalogue.published import Published
from pipeline.catalogue.query import open_catalogue
from pipeline.catalogue.sky import angles, pixel_range, unit_vectors
from pipeline.catalogue.snapshots import Snapshot
from pipeline.catalogue.summaries import Completeness, Sample
from pipeline.catalogue.verify import verify
from pipeline.errors import CatalogueError
from pipeline.storage import Storage
from tests.catalogue_rows import Patch, commit, commit_sky, plan_rows, table_of

ARCSEC = np.radians(1 / 3600)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Storage, Snapshot]]:
    """A sky so dense that margins have rows: 3,000 galaxies in 0.05 square degrees, where four base pixels meet."""
    storage = Storage(str(tmp_path_factory.mktemp("dense")))
    for index in range(3):
        patch = Patch(ra=44.9, dec=-0.1, width=0.2)
        rows = plan_rows(1000, first_id=1000 * index, patch=patch, seed=index)
        commit(storage, table_of(rows, seed=index), f"{index}unit")
    yield storage, finalise(storage, name="demo", max_rows=500)


def rows_of(storage: Storage, folder: str) -> dict[tuple[int, int], pa.Table]:
    published = Published(storage, folder)
    files = zip(published.partitions, published.files(), strict=True)
    return {partition: pq.read_table(pa.BufferReader(storage.read(name))) for partition, name in files}


def test_a_margin_is_every_foreign_row_within_ten_arcsec_of_the_pixel(output: tuple[Storage, Snapshot]) -> None:
    storage, snapshot = output
    main = rows_of(storage, f"{snapshot.folder}/catalogue")
    margin = rows_of(storage, f"{snapshot.folder}/margin_10arcs")
    everything = pa.concat_tables(main.values())
    vectors = unit_vectors(everything["ra"].to_numpy(), everything["dec"].to_numpy())
    ids, pixels = everything["object_id"].to_numpy(), everything["_healpix_29"].to_numpy()
    assert {pixel >> 2 * order for order, pixel in main} == {0, 4, 5, 8}
    for partition in main:
        first, stop = pixel_range(*partition)
        found = set(margin[partition]["object_id"].to_pylist()) if partition in margin else set()
        foreign = (pixels < first) | (pixels >= stop)
        distance = distance_to_pixel(vectors, *partition)
        surely = set(ids[foreign & (distance < (MARGIN - 0.1) * ARCSEC)])
        perhaps = set(ids[foreign & (distance < (MARGIN + 0.1) * ARCSEC)])
        assert surely <= found <= perhaps
    assert sum(table.num_rows for table in margin.values()) > 20
    assert next(iter(margin.values())).schema.equals(everything.schema)


def distance_to_pixel(vectors: Any, order: int, pixel: int) -> Any:
    """(N,) radians to the rim of a pixel, sampled every 0.3 arcsec or better where it matters: by its finer pixels."""
    import healpix

    depth = min(20 - order, 13)
    side = np.arange(1 << depth)
    bits = np.arange(depth)
    x = (((side[:, None] >> bits) & 1) << 2 * bits).sum(axis=1)
    rim = np.concatenate([x, x << 1, x | int(x[-1]) << 1, int(x[-1]) | x << 1]) + (pixel << 2 * depth)
    points = np.stack(healpix.pix2vec(1 << (order + depth), rim, nest=True), axis=1)
    size = np.sqrt(np.pi / 3) / (1 << (order + depth))
    return np.array([angles(points, each).min() for each in vectors]) - size / 2


def test_the_index_leads_from_every_identifier_to_its_partition(output: tuple[Storage, Snapshot]) -> None:
    storage, snapshot = output
    folder = f"{snapshot.folder}/index_object_id/dataset"
    index = pq.read_table(pa.BufferReader(storage.read(f"{folder}/index/part.0.parquet")))
    assert index["object_id"].to_pylist() == list(range(3000))
    for (order, pixel), table in rows_of(storage, f"{snapshot.folder}/catalogue").items():
        chosen = index.take(table["object_id"])
        assert chosen["_healpix_29"].equals(table["_healpix_29"])
        assert set(zip(chosen["Norder"].to_pylist(), chosen["Npix"].to_pylist(), strict=True)) == {(order, pixel)}
    metadata = pq.read_metadata(pa.BufferReader(storage.read(f"{folder}/_metadata")))
    assert (metadata.num_rows, metadata.row_group(0).column(0).file_path) == (3000, "index/part.0.parquet")


def test_close_pairs_are_flagged_across_the_borders_of_files(output: tuple[Storage, Snapshot]) -> None:
    _, snapshot = output
    rows = open_catalogue(snapshot.path).sql("SELECT ra, dec, radius, flags FROM catalogue").to_pydict()
    vectors = unit_vectors(np.array(rows["ra"]), np.array(rows["dec"]))
    radius = np.array([value or 0 for value in rows["radius"]])
    for number, flags in enumerate(rows["flags"]):
        separations = angles(vectors, vectors[number]) / ARCSEC
        separations[number] = 1e9
        reach = np.maximum(2.6, radius + radius[number])
        assert bool(flags & 128) == bool((separations < reach).any())


def test_a_sample_is_the_same_however_its_rows_come_and_spread_over_all() -> None:
    rows = table_of(plan_rows(900)).drop_columns(["net_att_map"])
    whole, parts = Sample(most=60), Sample(most=60)
    whole.add(rows)
    for start in (600, 0, 300):
        parts.add(rows.slice(start, 300))
    assert whole.rows().equals(parts.rows())
    assert whole.rows().num_rows == 60
    assert set(whole.rows()["object_id"].to_pylist()) <= set(rows["object_id"].to_pylist())
    assert np.diff(whole.rows()["_healpix_29"].to_numpy()).min() >= 0
    quarters = np.searchsorted(rows["_healpix_29"].to_numpy()[[225, 450, 675]], whole.rows()["_healpix_29"].to_numpy())
    assert min(np.bincount(quarters, minlength=4)) >= 8


def test_completeness_counts_by_pixel_and_magnitude() -> None:
    rows = pa.table(
        {
            "_healpix_29": pa.array([0, 1, 2, 1 << 46], pa.int64()),
            "status": ["ok", "no_coverage", "partial", "ok"],
            "FLUX_R": pa.array([100.0, 100.0, -1.0, 1000.0], pa.float32()),
            "recommended_spiral": [True, False, False, True],
        }
    )
    found = Completeness(("spiral",))
    found.add(rows.slice(0, 2))
    found.add(rows.slice(2))
    table = found.table().to_pylist()
    assert [tuple(row.values()) for row in table] == [
        (0, None, None, 1, 1, 1.0, 0),
        (0, 17.5, 18.0, 2, 1, 0.5, 1),
        (1, 15.0, 15.5, 1, 1, 1.0, 1),
    ]


def test_a_magnitude_is_taken_before_a_flux() -> None:
    columns = {"_healpix_29": [0], "status": ["ok"], "flux_r": [100.0], "dered_mag_r": [16.2]}
    found = Completeness(())
    found.add(pa.table(columns))
    assert found.table()["magnitude_low"].to_pylist() == [16.0]


RELEASE = Release(
    name="demo",
    number=2,
    created=datetime(2026, 11, 22, tzinfo=UTC),
    publication=Publication(
        title="Galaxies: a demonstration",
        creators=(Creator(name="Leavitt, Henrietta", orcid="0000-0002-1825-0097"), Creator(name="The Survey")),
        publisher="An Observatory",
        doi="10.5281/zenodo.1",
    ),
    rows=12,
    size=3400,
    statuses={"ok": 10, "bad_image": 2},
    before={"ok": 9},
    runs=("run-1", "run-2"),
    checkpoints={"net": "c" * 64},
    untrained=("net",),
    schema=pa.schema([pa.field("ra", pa.float64(), metadata={"unit": "deg", "ucd": "pos.eq.ra", "description": "RA"})]),
    builder="galaxy-pipeline 0",
)

# The mandatory properties of the DataCite Metadata Schema 4.5, and the values that two of them are limited to.
DATACITE = {
    "type": "object",
    "required": ["identifiers", "creators", "titles", "publisher", "publicationYear", "types", "schemaVersion"],
    "properties": {
        "identifiers": {"minItems": 1, "items": {"required": ["identifier", "identifierType"]}},
        "creators": {"minItems": 1, "items": {"required": ["name"], "properties": {"name": {"minLength": 1}}}},
        "titles": {"minItems": 1, "items": {"required": ["title"]}},
        "publisher": {"required": ["name"], "properties": {"name": {"minLength": 1}}},
        "publicationYear": {"type": "string", "pattern": "^[0-9]{4}$"},
        "types": {
            "required": ["resourceTypeGeneral", "resourceType"],
            "properties": {"resourceTypeGeneral": {"enum": ["Dataset"]}},
        },
        "schemaVersion": {"const": "http://datacite.org/schema/kernel-4"},
        "descriptions": {"items": {"required": ["description", "descriptionType"]}},
        "dates": {"items": {"required": ["date", "dateType"]}},
        "rightsList": {"items": {"required": ["rights", "rightsUri"]}},
    },
}


@pytest.mark.parametrize("publication", [RELEASE.publication, Publication()])
def test_the_metadata_for_a_doi_has_what_datacite_requires(publication: Publication) -> None:
    from dataclasses import replace

    from jsonschema import Draft202012Validator

    made = datacite(replace(RELEASE, publication=publication))
    validator = Draft202012Validator(DATACITE)
    assert [error.message for error in validator.iter_errors(made)] == []
    for name in DATACITE["required"]:
        assert not validator.is_valid({key: value for key, value in made.items() if key != name})


def test_the_documents_say_who_what_when_and_under_which_licence() -> None:
    files = {name: data.decode() for name, data in documents(RELEASE, "").items()}
    cited = yaml.safe_load(files["CITATION.cff"])
    assert cited["authors"][0] == {
        "family-names": "Leavitt",
        "given-names": "Henrietta",
        "orcid": "https://orcid.org/0000-0002-1825-0097",
    }
    assert (cited["doi"], cited["license"], cited["type"]) == ("10.5281/zenodo.1", "CC-BY-4.0", "dataset")
    assert "creativecommons.org/licenses/by/4.0" in files["LICENCE.txt"]
    assert "| `ra` | double | deg | pos.eq.ra | RA |" in files["README.md"]
    assert "UNTRAINED: net had random weights" in files["README.md"]
    assert json.loads(files["datacite.json"])["rightsList"][0]["rightsIdentifier"] == "CC-BY-4.0"


def test_a_changelog_tells_every_snapshot_the_newest_first() -> None:
    first = "# Changes of demo\n\n## Snapshot 1 (2026-01-01)\n\n* 9 rows\n"
    text = documents(RELEASE, first)["CHANGELOG.md"].decode()
    assert text.startswith(
        "# Changes of demo\n\n## Snapshot 2 (2026-11-22)\n\n* 12 rows, +3\n* bad_image: 2, +2\n* ok: 10, +1"
    )
    assert text.endswith("\n## Snapshot 1 (2026-01-01)\n\n* 9 rows\n")


@pytest.mark.parametrize("wrong", [{"title": "two\nlines"}, {"doi": "doi:10.1/x"}, {"licence": "mine"}, {"keep": 0}])
def test_a_publication_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Publication(**wrong)


def test_old_snapshots_go_by_policy_and_the_newest_stay_sound(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    for number in range(3):
        commit_sky(storage, units=1) if not number else commit(
            storage, table_of(plan_rows(5, first_id=900 * number)), f"9{number}unit"
        )
        finalise(storage, name="demo", publication=Publication(keep=2))
    assert sorted(path.name for path in (tmp_path / "snapshots").iterdir()) == ["0002", "0003"]
    assert [open_catalogue(f"{tmp_path}/snapshots/000{number}").rows for number in (2, 3)] == [105, 110]
    assert verify(storage).problems == ()
    changelog = (tmp_path / "latest/CHANGELOG.md").read_text()
    assert "## Snapshot 3" in changelog and "## Snapshot 1" in changelog
    with pytest.raises(CatalogueError, match="no published catalogue"):
        open_catalogue(f"{tmp_path}/snapshots/0001")
