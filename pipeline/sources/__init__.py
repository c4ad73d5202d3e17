"""Tables of positions, as batches of one shape: the user's own (`batches.py`) and the survey's (`sweeps.py`)."""
