"""VOParquet 1.0 (IVOA Note, January 2025): a VOTable without data in a Parquet footer gives units and UCDs.

`astropy.table.Table.read(file, format="parquet.votable")` reads it. astropy 8 has two traps: it cannot stack text that
is declared without a limit, and it cannot measure text that has nulls, so that the footer also gives the lengths under
astropy's own keys `table::len::<column>` (a null text then reads "None").
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.compute as pc

_NAMESPACE = "http://www.ivoa.net/xml/VOTable/v1.3"
_DATATYPES = {
    pa.bool_(): "boolean",
    pa.uint8(): "unsignedByte",
    pa.int8(): "short",
    pa.int16(): "short",
    pa.uint16(): "int",
    pa.int32(): "int",
    pa.uint32(): "long",
    pa.int64(): "long",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.string(): "char",
    pa.large_string(): "char",
}


def has_datatype(arrow: pa.DataType) -> bool:
    """Whether VOTable has a datatype that holds every value of an Arrow type."""
    return arrow in _DATATYPES


def text_widths(table: pa.Table) -> dict[str, int]:
    """Text column -> bytes of its longest value."""
    texts = [field.name for field in table.schema if _DATATYPES.get(field.type) == "char"]
    return {name: pc.max(pc.binary_length(table[name])).as_py() or 0 for name in texts}


def votable_schema(schema: pa.Schema, name: str, widths: Mapping[str, int]) -> pa.Schema:
    """The schema with the footer keys of VOParquet. `widths` are the bytes of the longest text of each column."""
    content = votable_xml(schema, name, {column: f"{max(1, width)}*" for column, width in widths.items()}).encode()
    footer = {b"IVOA.VOTable-Parquet.version": b"1.0", b"IVOA.VOTable-Parquet.content": content}
    lengths = {f"table::len::{column}".encode(): str(max(1, width)).encode() for column, width in widths.items()}
    return schema.with_metadata(footer | lengths)


def votable_xml(schema: pa.Schema, name: str, sizes: Mapping[str, str]) -> str:
    """A VOTable without data; `sizes` are the array sizes of the text columns, "1*" for those that have none."""
    root = ElementTree.Element("VOTABLE", {"version": "1.4", "xmlns": _NAMESPACE})
    resource = ElementTree.SubElement(root, "RESOURCE", {"type": "results"})
    table = ElementTree.SubElement(resource, "TABLE", {"name": name})
    for field in schema:
        _add_field(table, field, sizes)
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content.decode()


def _add_field(table: ElementTree.Element, field: pa.Field, sizes: Mapping[str, str]) -> None:
    metadata = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    attributes = {"name": field.name, "datatype": _DATATYPES[field.type]}
    if attributes["datatype"] == "char":
        attributes["arraysize"] = sizes.get(field.name, "1*")
    attributes |= {key: metadata[key] for key in ("unit", "ucd") if key in metadata}
    element = ElementTree.SubElement(table, "FIELD", attributes)
    if "description" in metadata:
        ElementTree.SubElement(element, "DESCRIPTION").text = metadata["description"]
