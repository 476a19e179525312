"""From rows to Markdown. Every number of the page comes from the rows."""

from statistics import median
from typing import Any

from campaign.faults import FAULTS

Rows = list[dict[str, Any]]


def markdown(document: dict[str, Any]) -> str:
    """The page of a campaign: what was done, on what, and two tables."""
    about, rows = document["about"], document["rows"]
    kinds = [kind for kind in FAULTS if any(row["fault"] == kind for row in rows)]
    costs = [_cost(kind, [row for row in rows if row["fault"] == kind]) for kind in kinds]
    manners = [_manner(kind, [row for row in rows if row["fault"] == kind]) for kind in kinds]
    heads = ["fault", "injections", "finished trials lost", "trials run twice", "epochs repeated (most)"]
    heads += ["checkpoint interval (epochs)", "equal bit for bit", "resumed after, median (s)", "worst (s)", "note"]
    others = ["fault", "exit statuses", "tracebacks", "lines of libraries", "MLflow: RUNNING", "wrong", "doubled"]
    return "\n\n".join(
        [
            "# Reliability",
            _story(about, rows),
            _table(heads, costs),
            "What the drivers said, what MLflow shows after `ablate track`, and what processes outlived their driver:",
            _table([*others, "orphans"], manners),
            "Rows: [reliability.json](reliability.json). Made by `make campaign`.\n",
        ]
    )


def _story(about: dict[str, Any], rows: Rows) -> str:
    sound = sum(row["complete"] and row["equal"] for row in rows)
    return f"""\
{len(rows)} times a study was disturbed while it ran on a real Ray cluster of one head and {about["workers"]} workers
(processes of `ray start` on one machine, token authentication on), at moments drawn from seed {about["seed"]}; then the
same command was given again until all trials were done. The study trains {about["trials"]} trials of
{about["epochs"]} epochs: HRNet on drawn figures, {about["arms"]} arms, {about["seeds"]} seeds, a state saved every
{about["checkpoint_seconds"]:g} s; MLflow is a server over {about["mlflow_store"]}.

{sound} of {len(rows)} ended complete, with losses, scores and per-image arrays equal bit for bit to a run that nothing
happened to.

{about["date"]}, revision {about["revision"]}; Python {about["python"]}, torch {about["torch"]}, Ray {about["ray"]},
MLflow {about["mlflow"]}; {about["processor"]}, {about["cores"]} cores; {about["minutes"]:.0f} minutes in all.

An epoch counts as repeated when it was trained to its end twice; what was trained is told by a trace that the networks
write themselves. Time to resume: from the fault to the next finished epoch, or result, of a trial that the fault
stopped, restarting included."""


def _cost(kind: str, rows: Rows) -> list[str]:
    times = [row["resume_seconds"] for row in rows if row["resume_seconds"] is not None]
    return [
        FAULTS[kind].title,
        str(len(rows)),
        str(sum(row["lost"] for row in rows)),
        str(sum(row["twice"] for row in rows)),
        str(max(row["repeated"] for row in rows)),
        str(min(row["interval"] for row in rows)),
        f"{sum(row['equal'] for row in rows)} of {len(rows)}",
        f"{median(times):.0f}" if times else "",
        f"{max(times):.0f}" if times else "",
        _note(rows),
    ]


def _note(rows: Rows) -> str:
    """What the numbers leave out: runs needed, what a damaged trial trained again, what is not complete."""
    notes = [f"{max(len(row['statuses']) for row in rows)} runs at most"]
    if most := max(row["repeated_of_damaged"] for row in rows):
        notes.append(f"{most} epochs of the damaged trial trained again")
    if open_ := sum(not row["complete"] for row in rows):
        notes.append(f"{open_} not complete")
    return "; ".join(notes)


def _manner(kind: str, rows: Rows) -> list[str]:
    statuses = sorted({" ".join(map(str, row["statuses"])) for row in rows})
    sums = [str(sum(row["mlflow"][key] for row in rows)) for key in ("running", "wrong", "doubled")]
    counts = [str(sum(row[key] for row in rows)) for key in ("tracebacks", "noise")]
    return [FAULTS[kind].title, ", ".join(statuses), *counts, *sums, str(sum(row["orphans"] for row in rows))]


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
