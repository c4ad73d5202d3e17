"""Tables and lines on the screen."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pipeline.cli import screen


def test_numbers_of_every_kind_stand_to_the_right_and_words_to_the_left(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("spiral", Decimal(7), 0.25, None), ("edge_on", Decimal(104), 10.0, 3)]
    screen.grid(("label", "agree", "share", "rows"), rows)
    assert capsys.readouterr().out.splitlines() == [
        "label    agree  share  rows",
        "spiral       7   0.25",
        "edge_on    104     10     3",
    ]


def test_brackets_and_colons_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    text = "s3://runs/[dr10]/a:id:b ended: [/data] is full"
    screen.out.print(text)
    screen.err.print(text)
    assert capsys.readouterr() == (f"{text}\n", f"{text}\n")
