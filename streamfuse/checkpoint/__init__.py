"""Exactly once for recordings: what an interrupted run has done, so that the next one goes on from there.

Outputs grow as `<name>.part`. Every few seconds they are put to disk and then `.<stem>.checkpoint` is
replaced: how long each output is, and everything that the analysis and the labels carry from tick to tick.
Whatever dies when, the next run cuts the outputs to those lengths and goes on after that tick, and what it
writes is what an undisturbed run would have written.

    identity.py   what a run must have in common with the one it goes on for
    record.py     the file itself
    carried.py    the state of the analysis and of the labels, as plain data
    outputs.py    a recording's files, opened anew or where the checkpoint left them, and finished
    keeper.py     writes checkpoints beside the work
"""
