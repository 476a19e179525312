"""Ray, and nothing of Ray elsewhere.

    start            all trials through Ray Tune; hooks.py: Tune's hooks in our words
    cluster          a Ray cluster, joined with its token
    nodes            does every node see what the driver sees?
    worker           the side of Ray that trains; team.py: a trial's further processes
    pulse            finds processes that are silent, and ends them

The driver calls `start`, commands ask `cluster`; this face imports nothing.
"""
