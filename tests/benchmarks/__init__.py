"""Measurements, by hand or by `make bench`; no test.

`python -m tests.benchmarks.engine_vs_ray_data [--images 20000] [--repeats 3]` compares the engine with Ray Data.
"""
