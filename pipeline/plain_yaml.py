"""YAML from outside: plain values only, and no more of them than a person writes."""

from __future__ import annotations

from typing import Any

import yaml

LONGEST = 1 << 20  # characters of a text
MOST = 100_000  # values: a few lines of aliases of aliases ("billion laughs") make more than any memory holds
DEEPEST = 40  # of lists and mappings inside each other; an alias of itself has no end


class _Loader(yaml.SafeLoader):
    """Of plain values, whose merge keys (`<<`) put no more into a mapping than MOST: PyYAML writes them out first."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MOST:
            raise ValueError(f"more than {MOST} values, its merge keys written out")


def plain_yaml(text: str) -> Any:
    """The value that `text` says. Tags that make objects are refused, as is a text whose aliases grow it beyond MOST.

    Raises ValueError in one line.
    """
    if len(text) > LONGEST:
        raise ValueError(f"{len(text)} characters are too many: {LONGEST} is the most")
    try:
        value = yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise ValueError(f"nested more than {DEEPEST} deep") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    _count(value, MOST, DEEPEST)
    return value


def _count(value: Any, left: int, depth: int) -> int:
    """How many values may still come after this one. Raises ValueError where there are too many, or too deep."""
    if left <= 0:
        raise ValueError(f"more than {MOST} values, its aliases written out")
    if depth <= 0:
        raise ValueError(f"nested more than {DEEPEST} deep")
    left -= 1
    if isinstance(value, dict):
        for key, below in value.items():
            left = _count(below, _count(key, left, depth - 1), depth - 1)
    elif isinstance(value, list | tuple | set):
        for below in value:
            left = _count(below, left, depth - 1)
    return left
