"""What may break is broken, while a run goes on or between two: every source must come out once, and the catalogue
equal the undisturbed one. `CHAOS_SEED=n pytest tests/chaos` strikes at other points.
"""
