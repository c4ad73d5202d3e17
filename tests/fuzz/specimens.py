"""Small sound files of every kind that the product reads, to be spoilt."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from astropy.io import fits

from pipeline.catalogue.commits import manifest_name, parquet_name
from pipeline.storage import Storage
from tests.catalogue_rows import commit, plan_rows, table_of
from tests.plans import planned, sky
from tests.runs import tiny_checkpoint
from tests.skies import tan_header
from tests.source_tables import WRITERS, written

JSON = (
    *(b"null", b"-1", b"[]", b"{}", b'""', b"1e999", b"NaN", b"true", b"99999999999999999999"),
    *(b'"../../x"', b"[" * 2000),
)
YAML = (
    *(b"*a", b"&a [*a, *a]", b"!!python/object/apply:os.system [id]", b"{", b"- ", b": ", b"|", b"<<: *a", b"\t"),
    *(b"1e400", b".inf", b"null", b"~", b"[" * 500, b"!!binary x", b"2020-13-45", b"0o7", b"\x00", b"\xff\xfe"),
    *(b"%YAML 9.9", b"../.."),
)
TEXT = (
    *(b",", b'"', b"\n", b"\t", b"nan", b"inf", b"-1e999", b"\x00", b"\xff", b"361", b"00012", b"9223372036854775808"),
)
XML = (
    *(b"<!ENTITY x 'y'>", b"&x;", b"<TR>", b"</TD>", b"<TABLE>", b"</TABLE>", b"]]>", b"<!--", b"NaN", b"-"),
    *(b"arraysize='*'", b'arraysize="99999999"', b'arraysize="3x*"', b'datatype="long"', b'datatype="unicodeChar"'),
    *(b'encoding="gzip"',),
)


@dataclass(frozen=True)
class Specimen:
    """The bytes of a sound file, words that matter in it, and how many of its first bytes say how to read the rest."""

    data: bytes
    tokens: tuple[bytes, ...] = ()
    hot: int | None = None


def specimens() -> dict[str, Specimen]:
    """By the name of the reader (`readers.py`)."""
    made = {name: Specimen(_image(name), (), 5760) for name in IMAGES}
    made["sweep"] = Specimen(_sweep(), (), 5760)
    made["job"] = Specimen(JOB.encode(), YAML)
    tables = {"table.fits": (), "table.csv": TEXT, "table.parquet": (), "table.vot": XML, "table.ecsv": (*YAML, *TEXT)}
    made |= {name: Specimen(_table(name), tokens, 5760) for name, tokens in tables.items()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made["checkpoint"] = Specimen(tiny_checkpoint(folder).read_bytes(), JSON, 4000)
        made["sidecar"], made["object"] = Specimen(SIDECAR, (*JSON, b"../"), None), Specimen(b"pixels" * 9)
        made |= _committed(folder / "commits") | _plan(folder / "planned")
    return made


def _image(kind: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.fits"
        IMAGES[kind](path)
        return path.read_bytes()


def _pixels() -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(1).standard_normal((60, 50)).astype(np.float32)


def _cards() -> list[dict[str, Any]]:
    cards = {**tan_header(150.0, 2.0, 50), "BUNIT": "nanomaggy", "BAND": "r"}
    return [{"name": name, "value": value} for name, value in cards.items()]


def _plain(path: Path) -> None:
    pixels = np.stack([_pixels()] * 3)
    hdu = fits.PrimaryHDU(pixels.astype(">f4"))
    hdu.header.update({**tan_header(150.0, 2.0, 50), "BANDS": "grz", "BUNIT": "nanomaggy"})
    hdu.writeto(path)


def _one_plane(path: Path) -> None:
    fitsio.write(path, _pixels(), header=_cards(), clobber=True)


def _packed(**options: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        whole = options["compress"] in ("HCOMPRESS", "PLIO")
        pixels = (10 * np.abs(_pixels())).astype(np.int32) if whole else _pixels()
        fitsio.write(path, pixels, header=_cards(), tile_dims=(20, 25), **options)

    return write


IMAGES: dict[str, Callable[[Path], None]] = {
    "fits.cube": _plain,
    "fits.plain": _one_plane,
    "fits.rice": _packed(compress="RICE", qlevel=-1e-2, qmethod="SUBTRACTIVE_DITHER_2", dither_seed=7),
    "fits.gzip": _packed(compress="GZIP_2", qlevel=-1e-2, qmethod="SUBTRACTIVE_DITHER_1", dither_seed=7),
    "fits.hcompress": _packed(compress="HCOMPRESS"),
    "fits.plio": _packed(compress="PLIO"),
}


def _sweep() -> bytes:
    from tests.test_sweeps import sweep

    columns = {name: np.asarray(column) for name, column in sweep(6).items()}
    texts = {name: column.astype("S4") if column.dtype.kind == "U" else column for name, column in columns.items()}
    stream = io.BytesIO()
    fits.BinTableHDU.from_columns(
        [fits.Column(name, _format(column), array=column) for name, column in texts.items()]
    ).writeto(stream)
    return stream.getvalue()


def _format(column: np.ndarray[Any, np.dtype[Any]]) -> str:
    kinds = {"i2": "I", "i4": "J", "i8": "K", "f4": "E", "f8": "D", "S4": "4A"}
    return kinds[column.dtype.str[1:]]


def _table(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return written(Path(folder), next(known for known in WRITERS if known == f"sky.{name[6:]}")).read_bytes()


def _committed(folder: Path) -> dict[str, Specimen]:
    storage = Storage(str(folder))
    commit(storage, table_of(plan_rows(20)), "ab12")
    manifest, rows = (storage.read(name("ab12", 1)) for name in (manifest_name, parquet_name))
    return {"manifest": Specimen(manifest, JSON), "unit": Specimen(rows)}


def _plan(folder: Path) -> dict[str, Specimen]:
    planned(sky(40), folder)
    names = {"plan.json": JSON, "units.parquet": (), "part-00000.parquet": ()}
    return {f"plan/{name}": Specimen((folder / "plan" / name).read_bytes(), tokens) for name, tokens in names.items()}


SIDECAR = (
    b'{"url": "https://archive.example/a.fits", "part": "", "sha256": "%s", "size": 54, "checked": true, "etag": null, '
    b'"modified": null, "total": 54, "fetched": 1.0, "missing": ""}'
)
JOB = """\
name: fuzzed
survey: {kind: legacy, release: dr10, regions: [south], bands: [g, r, z]}
mirror: https://archive.example/legacysurvey
sources:
  columns: &names {object_id: TARGETID, ra: RA, dec: DEC}
  selection: {types: [REX, EXP], max_mag_r: 19.0, exclude_maskbits: [1, 5]}
  region: {ra: 150.1, dec: 2.2, radius: 0.5}
  limit: 100
networks:
  dmagnet: {checkpoint: "untrained:dmagnet_f:0", batch: 16}
units: {sources: 4096, chunk: 256}
archives:
  hosts: {archive.example: {rate: 5.0}}
  retry: {attempts: 3, deadline: 60.0}
  cache: {url: /tmp/cache, gigabytes: 1.0}
engine: {actors: 1, store_fraction: 0.3, grace: 60}
"""
