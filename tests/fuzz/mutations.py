"""What may happen to the bytes of a file, as plain data, so that hypothesis can draw it and a finding shows it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Literal, get_args

from hypothesis import strategies as st

Kind = Literal["flip", "byte", "cut", "delete", "insert", "repeat", "number", "token", "card", "swap"]
Change = tuple[Kind, int, int]  # what, where, which: the numbers are taken modulo what there is

CARD = 80  # bytes of a line of a FITS header (FITS standard 4.0, sec. 3.2)
NUMBERS = (0, 1, -1, 2, 255, 2**15, 2**31 - 1, -(2**31), 2**32 - 1, 2**62, 2**63 - 1, -(2**63))
CARD_VALUES = (
    *("0", "-1", "1", "2", "3", "8", "16", "-64", "999", "32768", "2147483647", "-2147483648", "9223372036854775807"),
    *("1E400", "1E-320", "NaN", "-NaN", "T", "F", "(1.0, 2.0)", "''", "'x'", "'unclosed", "", "'1PB(9999999999)'"),
    *("'1QB(-1)'", "'999999999J'", "'RICE_1'", "'GZIP_2'", "'PLIO_1'", "'HCOMPRESS_1'", "'SUBTRACTIVE_DITHER_2'"),
    *("'RA---ZPN'", "'DEC--TAN'"),
)


def changes(most: int = 4) -> st.SearchStrategy[list[Change]]:
    """One to `most` changes."""
    big = st.integers(0, 2**32 - 1)
    return st.lists(st.tuples(st.sampled_from(get_args(Kind)), big, big), min_size=1, max_size=most)


def spoilt(data: bytes, made: Sequence[Change], tokens: Sequence[bytes], hot: int | None = None) -> bytes:
    """`data` after the changes; every second one falls into the first `hot` bytes, where most of the sense is."""
    for number, (kind, where, which) in enumerate(made):
        reach = len(data) if hot is None or (where + number) % 2 else min(hot, len(data))
        data = _changed(data, kind, (where // 2) % max(reach, 1), which, tokens)
    return data


def _changed(data: bytes, kind: Kind, at: int, which: int, tokens: Sequence[bytes]) -> bytes:
    if kind == "card":
        return _with_card(data, at, which)
    before, after = data[:at], data[at:]
    if kind == "token":
        token = tokens[which % len(tokens)] if tokens else _number(which)
        return before + token + after[which // 7 % (len(token) + 1) :]
    return before + _CHANGES[kind](after, which)


def _repeated(after: bytes, which: int) -> bytes:
    piece = after[: 1 + which % 256]
    return piece * (2 + which % 3) + after[len(piece) :]


def _swapped(after: bytes, which: int) -> bytes:
    size = 1 + which % 512
    return after[size : 2 * size] + after[:size] + after[2 * size :]


_CHANGES: dict[Kind, Callable[[bytes, int], bytes]] = {
    "flip": lambda after, which: bytes(byte ^ 1 << which % 8 for byte in after[:1]) + after[1:],
    "byte": lambda after, which: bytes([which % 256]) + after[1:],
    "cut": lambda after, which: b"",
    "delete": lambda after, which: after[1 + which % 64 :],
    "insert": lambda after, which: struct.pack("<Q", which * 0x9E3779B97F4A7C15 % 2**64)[: 1 + which % 8] + after,
    "repeat": _repeated,
    "number": lambda after, which: _number(which) + after[len(_number(which)) :],
    "swap": _swapped,
}


def _number(which: int) -> bytes:
    """One of NUMBERS, in 2, 4 or 8 bytes of either order."""
    value, size = NUMBERS[which % len(NUMBERS)], (2, 4, 8)[which // 16 % 3]
    return (value % 256**size).to_bytes(size, "big" if which // 64 % 2 else "little")


def _with_card(data: bytes, at: int, which: int) -> bytes:
    """The header line around `at` with another value, if it is one."""
    start = at // CARD * CARD
    card = data[start : start + CARD]
    if card[8:10] != b"= ":
        return data
    value = CARD_VALUES[which % len(CARD_VALUES)].rjust(20).encode()
    return data[:start] + (card[:10] + value).ljust(CARD)[:CARD] + data[start + CARD :]
