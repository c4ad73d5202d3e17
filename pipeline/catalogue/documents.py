"""What a catalogue is published with: README, citation, licence, changelog and metadata for a DOI.

datacite.json follows the DataCite Metadata Schema 4.5 (its six mandatory properties are there from the first snapshot;
what nobody knows yet has the standard value `:tba`, appendix 3). CITATION.cff follows the Citation File Format 1.2.0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import pyarrow as pa
import yaml
from pydantic import BaseModel, ConfigDict, Field

from pipeline.catalogue.columns import schema_markdown
from pipeline.catalogue.contract import catalogue_document
from pipeline.catalogue.recommended import published_cuts

README, CITATION, LICENCE, CHANGELOG, DATACITE = (
    "README.md", "CITATION.cff", "LICENCE.txt", "CHANGELOG.md", "datacite.json"
)  # fmt: skip
UNKNOWN = ":tba"  # "to be assigned or announced later"
_LICENCES = {
    "CC-BY-4.0": ("Creative Commons Attribution 4.0 International", "https://creativecommons.org/licenses/by/4.0/"),
    "CC-BY-SA-4.0": (
        "Creative Commons Attribution-ShareAlike 4.0 International",
        "https://creativecommons.org/licenses/by-sa/4.0/",
    ),
    "CC0-1.0": ("Creative Commons Zero 1.0 Universal", "https://creativecommons.org/publicdomain/zero/1.0/"),
}


class Creator(BaseModel):
    """A person or group that the catalogue is cited by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)  # of a person: "Family, Given"
    orcid: str | None = Field(default=None, pattern=r"^\d{4}-\d{4}-\d{4}-\d{3}[\dX]$")
    affiliation: str | None = None


class Publication(BaseModel):
    """How a catalogue is titled, cited and licensed. Nothing here changes what is computed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = Field(default="", pattern=r"^[^\r\n]*$")  # empty: from the job's name
    description: str = Field(default="", pattern=r"^[^\r\n]*$")  # one line
    creators: tuple[Creator, ...] = ()
    publisher: str = UNKNOWN
    licence: Literal["CC-BY-4.0", "CC-BY-SA-4.0", "CC0-1.0"] = "CC-BY-4.0"
    doi: str | None = Field(default=None, pattern=r"^10\.\d{4,9}/\S+$")
    keep: int | None = Field(default=None, ge=1)  # newest snapshots that stay when one is published; None: all


@dataclass(frozen=True)
class Release:
    """One snapshot, as its documents describe it."""

    name: str
    number: int
    created: datetime
    publication: Publication
    rows: int
    size: int  # bytes of the Parquet files
    statuses: Mapping[str, int]
    before: Mapping[str, int] | None  # statuses of the snapshot before, None for the first
    runs: tuple[str, ...]
    checkpoints: Mapping[str, str]  # network -> sha256
    untrained: tuple[str, ...]
    schema: pa.Schema  # of the full table
    builder: str  # name and version of the software

    @property
    def title(self) -> str:
        return self.publication.title or f"Galaxy morphology: {self.name}"

    @property
    def description(self) -> str:
        """What the catalogue is; that its networks are untrained comes first."""
        warning = ""
        if self.untrained:
            networks = ", ".join(self.untrained)
            warning = f"UNTRAINED: {networks} had random weights, so that its columns mean nothing. "
        return warning + (self.publication.description or "Morphology by attention networks")


def documents(release: Release, changelog: str) -> dict[str, bytes]:
    """File name -> content. `changelog` is that of the snapshot before, "" for the first."""
    name, url = _LICENCES[release.publication.licence]
    licence = f"{release.title}\n\nThis catalogue is published under the licence {name}:\n{url}\n"
    texts = {
        README: readme(release),
        CITATION: yaml.safe_dump(citation(release), sort_keys=False, allow_unicode=True, width=100),
        LICENCE: licence,
        CHANGELOG: _changelog(release, changelog),
        DATACITE: json.dumps(datacite(release), indent=2, ensure_ascii=False) + "\n",
    }
    return {name: text.encode() for name, text in texts.items()}


def datacite(release: Release) -> dict[str, Any]:
    """The metadata with which a DOI is registered (DataCite 4.5, as JSON)."""
    publication = release.publication
    name, url = _LICENCES[publication.licence]
    return {
        "schemaVersion": "http://datacite.org/schema/kernel-4",
        "identifiers": [{"identifier": publication.doi or UNKNOWN, "identifierType": "DOI"}],
        "creators": [_creator(each) for each in publication.creators] or [{"name": UNKNOWN}],
        "titles": [{"title": release.title}],
        "publisher": {"name": publication.publisher},
        "publicationYear": f"{release.created:%Y}",
        "types": {"resourceTypeGeneral": "Dataset", "resourceType": "Astronomical catalogue"},
        "version": str(release.number),
        "language": "en",
        "descriptions": [{"description": release.description, "descriptionType": "Abstract"}],
        "subjects": [{"subject": each} for each in ("galaxies", "galaxy morphology", "sky surveys", "neural networks")],
        "dates": [{"date": f"{release.created:%Y-%m-%d}", "dateType": "Created"}],
        "sizes": [f"{release.rows} rows", f"{release.size} bytes"],
        "formats": ["application/vnd.apache.parquet"],
        "rightsList": [
            {
                "rights": name,
                "rightsUri": url,
                "rightsIdentifier": publication.licence,
                "rightsIdentifierScheme": "SPDX",
                "schemeUri": "https://spdx.org/licenses/",
            }
        ],
    }


def citation(release: Release) -> dict[str, Any]:
    """CITATION.cff of the catalogue."""
    publication = release.publication
    authors = [_author(each) for each in publication.creators] or [{"name": UNKNOWN}]
    cited = {
        "cff-version": "1.2.0",
        "message": "If you use this catalogue, please cite it, and the paper of each network whose columns you use.",
        "type": "dataset",
        "title": release.title,
        "abstract": release.description,
        "version": str(release.number),
        "date-released": f"{release.created:%Y-%m-%d}",
        "license": publication.licence,
        "authors": authors,
    }
    return cited | ({"doi": publication.doi} if publication.doi else {})


def readme(release: Release) -> str:
    """README.md: what is here, how to open it, and every column."""
    document = catalogue_document()
    cuts = published_cuts()
    statuses = "\n".join(
        f"| {name} | {release.statuses.get(name, 0)} | {text} |" for name, text in document.statuses.items()
    )
    flags = "\n".join(f"| {name} | {1 << flag.bit} | {flag.meaning} |" for name, flag in document.flags.items())
    networks = "\n".join(f"* `{prefix}`: checkpoint sha256 {sha}" for prefix, sha in release.checkpoints.items())
    return _README.format(
        title=release.title,
        description=release.description,
        number=release.number,
        rows=release.rows,
        created=f"{release.created:%Y-%m-%d}",
        builder=release.builder,
        networks=networks or "none",
        statuses=statuses,
        flags=flags,
        probability=cuts.probability,
        sound=", ".join(status.value for status in cuts.statuses),
        excluded=", ".join(cuts.flags),
        columns=schema_markdown(release.schema),
        licence=f"{_LICENCES[release.publication.licence][0]} ({LICENCE})",
    )


def _changelog(release: Release, before: str) -> str:
    lines = [f"## Snapshot {release.number} ({release.created:%Y-%m-%d})", ""]
    if release.before is None:
        lines.append(f"* {release.rows} rows")
    else:
        lines.append(f"* {release.rows} rows, {release.rows - sum(release.before.values()):+d}")
    for status in sorted({*release.statuses, *(release.before or {})}):
        count = release.statuses.get(status, 0)
        change = "" if release.before is None else f", {count - release.before.get(status, 0):+d}"
        lines.append(f"* {status}: {count}{change}")
    lines += [f"* {prefix}: checkpoint {sha[:16]}" for prefix, sha in release.checkpoints.items()]
    lines.append(f"* runs: {', '.join(release.runs)}")
    head = f"# Changes of {release.name}\n\n"
    return head + "\n".join(lines) + "\n" + ("\n" + before.removeprefix(head) if before else "")


def _creator(creator: Creator) -> dict[str, Any]:
    named: dict[str, Any] = {"name": creator.name}
    if creator.orcid:
        scheme = {"nameIdentifierScheme": "ORCID", "schemeUri": "https://orcid.org"}
        named["nameIdentifiers"] = [{"nameIdentifier": f"https://orcid.org/{creator.orcid}", **scheme}]
    if creator.affiliation:
        named["affiliation"] = [{"name": creator.affiliation}]
    return named


def _author(creator: Creator) -> dict[str, str]:
    family, comma, given = (part.strip() for part in creator.name.partition(","))
    author = {"family-names": family, "given-names": given} if comma else {"name": creator.name}
    if creator.orcid:
        author["orcid"] = f"https://orcid.org/{creator.orcid}"
    return author | ({"affiliation": creator.affiliation} if creator.affiliation else {})


_README = """# {title}

{description}

Snapshot {number}, {rows} rows, {created}, made by {builder}.

| what | where |
|---|---|
| the full table, a HATS catalogue | `catalogue/` |
| the same rows with the columns that most people want | `friendly/` |
| its margin of 10 arcsec, and an index of `object_id` | `margin_10arcs/`, `index_object_id/` |
| the 16x16 attention maps, where there are any | `attention_maps/` |
| 10,000 rows at random, all columns | `sample.parquet` |
| how many sources there are and how many were classified, by HEALPix pixel and magnitude | `completeness.parquet` |
| what changed since the last snapshot | `CHANGELOG.md` |
| how to cite it, its licence, its metadata for a DOI | `CITATION.cff`, `LICENCE.txt`, `datacite.json` |
| the sha256 of every file | `SHA256SUMS` |

```python
import lsdb
lsdb.open_catalog("THIS_FOLDER").cone_search(ra=150.1, dec=2.2, radius_arcsec=60).compute()

import duckdb
duckdb.sql("SELECT status, count(*) FROM 'THIS_FOLDER/friendly/dataset/**/*.parquet' GROUP BY 1")

from pipeline import open_catalogue
open_catalogue("THIS_FOLDER").cone(150.1, 2.2, 60).where("status = 'ok'").to_pandas()
```

Every file is VOParquet: `astropy.table.Table.read(FILE, format="parquet.votable")` gives units and UCDs.

## Networks

{networks}

`recommended_<class>` is true where the first network gives the class a probability of {probability} or more, the
status is {sound}, and none of these flags is set: {excluded}.

## Rows by status

| status | rows | meaning |
|---|---|---|
{statuses}

## Bits of `flags`

| flag | value | meaning |
|---|---|---|
{flags}

## Columns of the full table

{columns}

## Licence and citation

{licence}. How to cite the catalogue: CITATION.cff.
"""
