"""The page itself: one HTML file that needs nothing else, on a disk or on a server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from pipeline.data import RowFlag
from pipeline.report.galleries import said
from pipeline.report.pictures import colour_tables
from pipeline.report.traced import NetworkNames, Traced

DIGITS = {"ra": 5, "dec": 5}  # of the table's numbers; three of all others
FLAG_BITS = [((flag.name or "").lower(), int(flag)) for flag in RowFlag]
SCRIPTS = ("theme.js", "maps.js", "compared.js", "viewer.js", "galleries.js", "rows.js")


def rendered(values: Mapping[str, Any], command: Any, data: Mapping[str, Any]) -> str:
    """The page. `values` are what page.html names; `data` is what its scripts read; `command` words a Traced's query.

    Text of the catalogue is escaped wherever it stands: by the template in the page, and in the data so that it
    cannot end the script element.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_static("page.html"))
    return template.render(
        values,
        style=Markup(_static("style.css")),
        scripts=[Markup(_static(name)) for name in SCRIPTS],
        data=embedded_json(data),
        said=said,
        thousands=thousands,
        command=command,
    )


def page_data(
    galaxies: Sequence[Mapping[str, Any]], networks: Sequence[NetworkNames], rows: Traced | None, opened: str | None
) -> dict[str, Any]:
    """What the page's scripts read."""
    table = {"columns": [], "rows": []} if rows is None else _table(rows)
    return {
        "galaxies": list(galaxies),
        "networks": [{"prefix": network.prefix, "classes": network.classes} for network in networks],
        "colours": colour_tables(),
        "rows": table,
        "flags": FLAG_BITS,
        "open": opened,
    }


def embedded_json(data: Mapping[str, Any]) -> str:
    """JSON that cannot close the script element that holds it, nor open a comment in it."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def thousands(count: int) -> str:
    return f"{count:,}".replace(",", "\N{THIN SPACE}")


def _table(rows: Traced) -> dict[str, Any]:
    columns = rows.rows.column_names
    values = [[_value(name, value) for name, value in row.items()] for row in rows.dicts()]
    return {"columns": columns, "rows": values}


def _value(name: str, value: Any) -> Any:
    if name == "object_id":
        return str(value)  # 64 bits: more than a number of JavaScript holds
    if isinstance(value, float):
        return None if value != value or abs(value) == float("inf") else round(value, DIGITS.get(name, 3))
    return value


def _static(name: str) -> str:
    return (files("pipeline.report") / "static" / name).read_text("utf-8")
