"""What is wrong with a job file, in words that name the key."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any


def explain(fault: dict[str, Any], schema: dict[str, Any]) -> str:
    """One of pydantic's errors by the key that it is about; of an unknown key the nearest valid one.

    `schema`: the JSON Schema of a whole job.
    """
    where = ".".join(str(part) for part in fault["loc"]) or "job"
    if fault["type"] != "extra_forbidden":
        given = "" if isinstance(fault["input"], dict) else f", got {fault['input']!r}"
        return f"{where}: {fault['msg']}{given}"
    *above, key = (str(part) for part in fault["loc"])
    valid = _valid_keys(above, schema)
    near = difflib.get_close_matches(key, valid, 1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"valid keys: {', '.join(sorted(valid))}"
    return f"{where}: unknown key; {hint}"


def _valid_keys(path: Sequence[str], schema: dict[str, Any]) -> list[str]:
    """The keys of the section at `path`; parts that are no key (a union's tag, a network's name) are stepped over."""
    here: dict[str, Any] = schema
    for part in path:
        here = _section(schema, here, part)
    return list(here.get("properties", {}))


def _section(schema: dict[str, Any], here: dict[str, Any], part: str) -> dict[str, Any]:
    """The schema of what lies at `part` of `here`, `here` itself where `part` only names a kind."""
    tagged = here.get("discriminator", {}).get("mapping", {}).get(part)
    named = here.get("additionalProperties") or next(iter(here.get("patternProperties", {}).values()), None)
    below = here.get("properties", {}).get(part) or ({"$ref": tagged} if tagged else named) or here
    below = next((option for option in below.get("anyOf", ()) if "$ref" in option), below)
    return dict(schema["$defs"][below["$ref"].rpartition("/")[2]]) if "$ref" in below else below
