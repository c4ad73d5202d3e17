"""Continuous running while everything is killed: `make soak`, or `python -m tests.soak --minutes 60`.

A driver (`driver.py`) classifies the mock sky over and over on a Ray cluster of two nodes (`nodes.py`), through an
archive that fails, onto a small disk. Meanwhile `strikes.py` kills, halts, slows down and fills what it finds. Every
catalogue is compared with that of an undisturbed run (`accounts.py`), and every process is watched for memory and open
files (`health.py`).
"""
