"""One trial becomes one result. Knows neither Ray nor MLflow.

    site             where a trial runs
    run_trial        one trial from start to end: fit.py trains on batches.py, evaluate.py scores
    updates          how weights change: rates, groups, what is frozen, their running average
    reports          what a training process tells of its trial, and who hears of it
    weights          a recipe's checkpoint -> the network's backbone
    team             several processes that train one trial; team_start.py, team_follower.py, team_norm.py: of it

Others import these files, for torch takes seconds: this face imports nothing.
"""
