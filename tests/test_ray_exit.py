"""A process that has used Ray ends with its own exit code, and before Ray's library is destroyed."""

from __future__ import annotations

import subprocess
import sys

import pytest

DESTROYED = 99
ENDS = f"""
import ctypes, sys
libc = ctypes.CDLL(None)
libc.__cxa_atexit(libc._exit, ctypes.c_void_p({DESTROYED}), None)  # called last: after the destructors of what follows

from pipeline.executors.ray.cluster import LocalRay, ray_session

with ray_session(size=LocalRay(cpus=1, store_bytes=80_000_000)):
    pass
libc.printf(b"from C, ")  # kept by the C library until the end, as standard output is no terminal
sys.stdout.write("from Python, ")
sys.exit(7)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="on_exit(3) is of glibc")
def test_a_process_ends_before_the_statics_of_ray_that_its_threads_still_read_are_destroyed() -> None:
    """They were read after that in a run of all tests, which all passed: segmentation fault, exit code 139."""
    ended = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, timeout=120)
    assert ended.returncode == 7, "Ray's library was destroyed" if ended.returncode == DESTROYED else ended.stderr
    assert {"from C", "from Python"} < set(ended.stdout.decode().split(", "))
