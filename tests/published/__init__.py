"""A small output of every published version of the contract, which later versions go on reading.

`python -m tests.published` adds that of today's version where it is not there yet; what is there is never written
again. The rows are drawn, and no survey's.
"""
