"""Spoilt files of every kind, a few of them; `make fuzz` reads 10,000 of each. What it has found stands below."""

from __future__ import annotations

import hashlib
import io
import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from fsspec.exceptions import FSTimeoutError

from pipeline.archives.cache import Cache, Facts
from pipeline.archives.heads import head_of
from pipeline.archives.images import FitsImage
from pipeline.archives.policy import CacheSection, host_of
from pipeline.archives.tile_table import TileTable
from pipeline.catalogue.commits import committed_table, manifest_name, parquet_name
from pipeline.catalogue.verify import verify
from pipeline.errors import ArchiveRefused, BadImage, CatalogueError, JobError
from pipeline.job import load_job
from pipeline.planner.plan import UNIT_SCHEMA, Plan, open_plan
from pipeline.storage import Storage
from pipeline.surveys.wcs import linearised
from tests.catalogue_rows import commit, plan_rows, table_of
from tests.fuzz import child
from tests.fuzz.campaign import fuzz
from tests.fuzz.child import Child, Outcome
from tests.fuzz.specimens import IMAGES, specimens
from tests.plans import planned, sky
from tests.skies import tan_header
from tests.source_tables import read
from tests.standins.fast import fast_access

EXAMPLES = 20
KINDS = (
    *("fits.cube", "fits.plain", "fits.rice", "sweep", "table.fits", "table.csv", "table.parquet", "table.vot"),
    *("table.ecsv", "job", "checkpoint", "sidecar", "object", "manifest", "unit", "plan/plan.json"),
    *("plan/units.parquet", "plan/part-00000.parquet"),
)


@pytest.fixture(scope="module")
def reader() -> Iterator[Child]:
    with Child(specimens()) as made:
        yield made


@pytest.mark.parametrize("kind", KINDS)
def test_a_spoilt_file_ends_in_a_result_or_an_error_of_our_own(reader: Child, kind: str) -> None:
    campaign = fuzz(reader, kind, EXAMPLES, seed=1)
    assert campaign.examples >= EXAMPLES // 2
    assert {place: finding.words for place, finding in campaign.findings.items()} == {}


def test_a_sound_file_is_read(reader: Child) -> None:
    """Else nothing that is spoilt would be looked at either."""
    for kind in KINDS:
        assert reader.read(kind, reader.specimens[kind].data) == Outcome(refused=False), kind


def test_a_dead_and_a_foreign_answer_are_findings(reader: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reader.read("nonsense", b"").finding.startswith("CRASH")  # the child dies of a kind that it has not
    assert reader.read("object", b"x") == Outcome(False)  # and is there again
    monkeypatch.setattr(child, "SILENCE", 0.0)
    assert reader.read("object", b"x").finding.startswith("HANG")


def test_cards_that_are_no_text_are_a_bad_image(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(np.zeros((4, 4), ">f4")).writeto(path)
    path.write_bytes(path.read_bytes().replace(b"NAXIS1", b"NAX\xf1S1"))
    with pytest.raises(BadImage, match=r"^a\.fits: "):
        FitsImage(path, "a.fits")


@pytest.mark.parametrize("side", ["-99999", "1E10", "99999999999"])
def test_a_header_that_promises_no_possible_size_is_a_bad_image(side: str) -> None:
    stream = io.BytesIO()
    fits.PrimaryHDU(np.zeros((4, 4), ">f4")).writeto(stream)
    card = b"NAXIS1  =" + b"4".rjust(21)
    data = stream.getvalue().replace(card, b"NAXIS1  =" + side.encode().rjust(21))
    with pytest.raises(BadImage, match=r"^a\.fits: its headers promise"):
        head_of(data, "a.fits")


def test_a_size_without_a_value_is_a_bad_image(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(np.zeros((4, 4), ">f4")).writeto(path)
    path.write_bytes(path.read_bytes().replace(b"NAXIS1  =" + b"4".rjust(21), b"NAXIS1  =" + b" " * 21))
    with pytest.raises(BadImage, match=r"^a\.fits: "):
        FitsImage(path, "a.fits")


@pytest.mark.parametrize("kind", ["fits.rice", "fits.hcompress"])
def test_a_kind_of_pixel_that_fitsio_does_not_know_is_a_bad_image(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.fits"
    IMAGES[kind](path)
    data, card = path.read_bytes(), b"ZBITPIX = "
    at = data.index(card) + len(card)
    path.write_bytes(data[:at] + b"24".rjust(20) + data[at + 20 :])
    opened = FitsImage(path, "a.fits")
    with pytest.raises(BadImage, match=r"^a\.fits: .*unsupported fits data type: 24"):
        opened.section(0, 60, 0, 50)
    opened.close()


@pytest.mark.parametrize("spoilt", [{"CTYPE1": 7}, {"CUNIT1": "25\x0e5"}])
def test_a_wcs_that_astropy_cannot_hold_is_a_bad_image(spoilt: dict[str, object]) -> None:
    with pytest.raises(BadImage, match="no usable WCS"):
        linearised(tan_header(150.0, 2.0, 20) | spoilt, (20, 20), (150.0, 2.0), "a.fits")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"name: \xff\xfe", "not YAML"),
        (b"name: " + b"[" * 5000, "nested"),
        (b"name: &a [*a]", "nested"),
        (b"name: 2020-13-45", "month must be"),
        (b"name: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        (b"\n".join(b"k%d: &a%d [%s]" % (n, n, b"*a%d," % (n - 1) * 10 if n else b"x") for n in range(9)), "values"),
    ],
    ids=["bytes", "deep", "endless", "date", "object", "laughs"],
)
def test_a_job_that_no_person_wrote_is_refused(tmp_path: Path, text: bytes, said: str) -> None:
    (tmp_path / "job.yaml").write_bytes(text)
    with pytest.raises(JobError, match=said):
        load_job(str(tmp_path / "job.yaml"), environment={})


def test_an_ecsv_without_a_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sky.ecsv").write_text("# %ECSV 1.0\n# ---\n# \nOBJID ra\n1 2\n")
    with pytest.raises(JobError, match=r"sky\.ecsv"):
        read(tmp_path / "sky.ecsv")


def test_a_parquet_table_with_integers_of_too_many_bits_is_refused(tmp_path: Path) -> None:
    """In the schema that Arrow stores beside Parquet's own; its error is neither an OSError nor a ValueError."""
    pq.write_table(pa.table({"OBJID": pa.array([1], pa.int32())}), tmp_path / "sky.parquet")
    data = (tmp_path / "sky.parquet").read_bytes()
    stored = pq.read_metadata(tmp_path / "sky.parquet").metadata[b"ARROW:schema"]
    before, _, after = b64decode(stored).rpartition(b"\x20\x00\x00\x00")  # 32 bits
    (tmp_path / "sky.parquet").write_bytes(data.replace(stored, b64encode(before + b"\x20\x68\x00\x00" + after)))
    with pytest.raises(JobError, match=r"sky\.parquet: Integers with more than 64 bits"):
        read(tmp_path / "sky.parquet")


@pytest.mark.parametrize(
    "sidecar", ["[" * 100_000, '{"url": "x", "sha256": "../victim", "size": 16}', '{"sha256": 7}', "{}", "null"]
)
def test_a_sidecar_that_is_none_leads_nowhere_and_its_file_is_fetched_anew(tmp_path: Path, sidecar: str) -> None:
    """`../victim` would be read, found to be other bytes, and removed."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"of somebody else")
    cache = Cache(CacheSection(url=str(tmp_path / "cache")))
    calls: list[Path] = []

    def fetch(target: Path) -> Facts:
        calls.append(target)
        target.write_bytes(b"pixels")
        return Facts("https://a/b", sha256="ab" * 32, size=6)

    cache.file("key", tmp_path, fetch)
    next((tmp_path / "cache").glob("names/*/*")).write_text(sidecar)
    assert cache.file("key", tmp_path, fetch).fetched and len(calls) == 2
    assert victim.read_bytes() == b"of somebody else"


@pytest.mark.parametrize("name", ["plan/units.parquet", "plan/part-00000.parquet"])
def test_a_damaged_plan_stops_the_run_and_says_which_file(tmp_path: Path, name: str) -> None:
    planned(sky(40), tmp_path)
    (tmp_path / name).write_bytes(b"PAR1 and no more")
    made = open_plan(Storage(str(tmp_path)))
    assert made is not None
    with pytest.raises(CatalogueError, match=f"{name} is damaged"):
        made.rows(next(made.units()))


class Silent(Storage):
    """A store that opens files and then answers no more, in fsspec's words: an OSError without a number."""

    @contextmanager
    def open(self, name: str) -> Iterator[Any]:
        file = io.BytesIO(bytes(100))
        file.read = silence  # type: ignore[method-assign]
        yield file


def silence(size: int | None = -1) -> bytes:
    raise FSTimeoutError


def test_a_plan_on_a_store_that_is_silent_is_not_said_to_be_damaged(tmp_path: Path) -> None:
    summary = planned(sky(4), tmp_path).summary
    with pytest.raises(TimeoutError):
        next(Plan(Silent(str(tmp_path)), summary).units())


@pytest.mark.parametrize("column", ["ways", "chunks", "unit_id"])
def test_a_plan_whose_units_lack_a_column_is_damaged(tmp_path: Path, column: str) -> None:
    planned(sky(10), tmp_path)
    path = tmp_path / "plan/units.parquet"
    pq.write_table(pq.read_table(path).drop_columns([column]), path)
    made = open_plan(Storage(str(tmp_path)))
    assert made is not None
    with pytest.raises(CatalogueError, match=rf"units\.parquet is damaged: .*{column}"):
        list(made.units())


def test_a_committed_file_that_is_no_parquet_is_named_though_its_checksum_holds(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    commit(storage, table_of(plan_rows(5)), "ab12")
    facts = json.loads(storage.read(manifest_name("ab12", 1)))
    (tmp_path / parquet_name("ab12", 1)).write_bytes(b"PAR1")
    facts |= {"sha256": hashlib.sha256(b"PAR1").hexdigest(), "bytes": 4}
    (tmp_path / manifest_name("ab12", 1)).write_text(json.dumps(facts))
    assert "0001.parquet is no Parquet file" in " ".join(verify(storage).problems)
    with pytest.raises(CatalogueError, match="is no Parquet file"):
        committed_table(storage, "ab12", 1)


@pytest.mark.parametrize("column", ["object_id", "_healpix_29", "ra", "status", "net_label"])
def test_a_committed_file_without_a_column_that_it_is_judged_by_is_named(tmp_path: Path, column: str) -> None:
    storage = Storage(str(tmp_path))
    commit(storage, table_of(plan_rows(5)), "ab12")
    path = tmp_path / parquet_name("ab12", 1)
    pq.write_table(pq.read_table(path).drop_columns([column]), path)
    facts = json.loads(storage.read(manifest_name("ab12", 1)))
    facts |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
    (tmp_path / manifest_name("ab12", 1)).write_text(json.dumps(facts))
    assert f'0001.parquet: it cannot be checked: Field "{column}" does not exist' in " ".join(verify(storage).problems)


@pytest.mark.parametrize("value", ["1E400", "NaN"])
def test_a_tile_without_bounds_is_a_bad_image(value: str) -> None:
    cards = {"ZNAXIS1": float(value), "ZNAXIS2": 4, "ZTILE1": 4, "ZTILE2": 4}
    with pytest.raises(BadImage, match=r"^a\.fits: no table of compressed tiles"):
        TileTable.of(cards, b"", 0, "a.fits")


def test_brackets_that_hold_no_address_are_no_host() -> None:
    assert host_of("https://[*a, *a]/x") == ""
    with pytest.raises(ArchiveRefused, match="does not allow"), fast_access("http://127.0.0.1:1") as access:
        access.client.download("https://[*a, *a]/x", Path("nowhere"))


@pytest.mark.parametrize(("column", "value"), [("part", "plan/../../part-00000.parquet"), ("unit_id", "../../victim")])
def test_a_plan_that_names_files_elsewhere_is_refused(tmp_path: Path, column: str, value: str) -> None:
    planned(sky(10), tmp_path)
    path = tmp_path / "plan/units.parquet"
    rows = [row | {column: value} for row in pq.read_table(path).to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, UNIT_SCHEMA), path)
    made = open_plan(Storage(str(tmp_path)))
    assert made is not None
    with pytest.raises(CatalogueError, match="is damaged: no unit"):
        list(made.units())
