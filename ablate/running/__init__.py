"""Trials become processes. Ray is known in the room `ray` below this one, and nowhere else.

    drive            one `ablate run`: what is missing is launched, mirrored and shown
    outcome          what came of it
    attempts         which trial is tried next, and when one has failed
    here             trials in this process
    recorder         keeps what a run was predicted to take and what became of it

The commands import these files, for torch and Ray take seconds: this face imports nothing.
"""
