"""The Ray executor, the only package that imports Ray. Read `engine.py` first.

survey.py    the stages of a survey run as `work.py`'s four calls
engine.py    the loop: answers to events, the scheduler's actions to `hands.py`
hands.py     starts and cancels; holds references until they are dropped
tasks.py     load and commit tasks           actors.py    the pool of predicting actors
answers.py   which event an answer is        failures.py  what an exception out of Ray stops
deadlines.py the clock of the units          cluster.py   Ray's start, and who gets what of it
"""
