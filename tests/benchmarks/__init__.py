"""Measurements, by hand or all together by `make bench` (`python -m tests.benchmarks`); no test."""
