"""From sources to a stored plan of work units, and its cost. `plan.py` reads a plan, `planning.py` makes one."""
