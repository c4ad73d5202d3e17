"""The key=value files by which HATS describes a catalogue and a collection of them."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.errors import CatalogueError


def properties_bytes(title: str, values: Mapping[str, object]) -> bytes:
    """A properties file. Raises CatalogueError for a value that one line cannot hold."""
    lines = [f"#{title}"]
    for key, value in values.items():
        text = str(value)
        if text != text.strip() or any(letter in text for letter in "\n\r\\"):
            raise CatalogueError(f"{key}: {text!r} does not fit on a line of a properties file")
        lines.append(f"{key}={text}")
    return ("\n".join(lines) + "\n").encode()


def parsed_properties(data: bytes) -> dict[str, str]:
    """The keys and values of a properties file."""
    lines = (line.strip() for line in data.decode().splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, _, value in pairs}
