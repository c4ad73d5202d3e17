"""Everything that is read from outside, spoilt: each example must end in a result or an error of our own.

`python -m tests.fuzz --examples 10000`; `mutations.py` spoils, `specimens.py` has the files to be spoilt, `readers.py`
reads them as the product does, and `child.py` does so in a process of its own, whose death or silence is a finding.
"""
