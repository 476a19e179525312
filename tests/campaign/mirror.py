"""What MLflow shows after an injection, once `ablate track` has filled it in."""

import os
from collections import Counter
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def judged(uri: str, experiment: str, statuses: dict[str, str]) -> dict[str, int]:
    """Runs still RUNNING, trials whose runs contradict `statuses` (trial id -> status), metrics doubled."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    runs = list(client.search_runs([found.experiment_id], max_results=1000)) if found else []
    children = [run for run in runs if "ablate.trial" in run.data.tags]
    return {
        "running": sum(run.info.status == "RUNNING" for run in runs),
        "wrong": _wrong(children, statuses),
        "doubled": sum(_doubled(client, run) for run in runs),
    }


def _wrong(children: list[Any], statuses: dict[str, str]) -> int:
    """Trials without exactly one run, or with one that says FINISHED of a failure or the reverse."""
    by_trial: dict[str, list[str]] = {}
    for run in children:
        by_trial.setdefault(run.data.tags["ablate.trial"], []).append(run.info.status)
    due = {trial: ["FINISHED" if status == "done" else "FAILED"] for trial, status in statuses.items()}
    return sum(by_trial.get(trial) != due.get(trial) for trial in {*by_trial, *due})


def _doubled(client: Any, run: Any) -> int:
    """Metrics of a run with more than one value at a step."""
    steps = (
        Counter(point.step for point in client.get_metric_history(run.info.run_id, key)) for key in run.data.metrics
    )
    return sum(max(counts.values(), default=0) > 1 for counts in steps)
