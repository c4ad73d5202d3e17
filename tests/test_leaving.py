"""How the command line ends: with its own exit code, whatever the end of the interpreter would have made of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

ABORTS = """
import atexit, os, sys

class Late:
    def __del__(self):
        os.abort()  # as C++ does in a thread that the ending interpreter ends

atexit.register(print, "what was registered is done")
kept = Late()
sys.argv = ["pipeline", *{arguments!r}]
from pipeline.cli import main
main()
"""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [(["--version"], 0, "pipeline "), (["status", "nowhere-at-all"], 1, "nowhere-at-all"), (["--wrong"], 2, "--wrong")],
)
def test_a_thread_that_aborts_at_the_end_of_the_interpreter_changes_no_exit_code(
    arguments: list[str], code: int, said: str
) -> None:
    line = [sys.executable, "-c", ABORTS.format(arguments=arguments)]
    ended = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == code, ended.stderr
    assert said in ended.stdout + ended.stderr
    assert ended.stdout.endswith("what was registered is done\n")
