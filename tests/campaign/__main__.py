"""The campaign as a command: rows to reliability.json as they come, the page to reliability.md at the end."""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ablate import registry
from ablate.machine import origin
from campaign import report, study
from campaign.cluster import Cluster
from campaign.faults import FAULTS
from campaign.injection import injected, undisturbed
from campaign.mlflow_server import Server

ROOT = Path(__file__).parent.parent.parent


def arguments() -> argparse.Namespace:
    """The command's flags."""
    parser = argparse.ArgumentParser(prog="campaign", description=__doc__)
    parser.add_argument("--injections", type=int, default=2 * len(FAULTS), help="in all, over the kinds in turn")
    parser.add_argument("--seed", type=int, default=0, help="decides all moments and choices")
    parser.add_argument("--only", action="append", choices=FAULTS, help="a kind of fault; may be given again")
    parser.add_argument("--to", type=Path, default=ROOT / "reports", help="where reliability.md and .json go")
    parser.add_argument("--keep", action="store_true", help="keep the scratch folder with all logs")
    return parser.parse_args()


def main() -> int:
    """Run the campaign; 1 when a promise was broken."""
    flags = arguments()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background are born deaf to Ctrl-C
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ended politely, it ends what it started
    registry.load_plugins(("campaign.parts",))
    kinds = flags.only or list(FAULTS)
    scratch = Path(tempfile.mkdtemp(prefix="ac-"))  # short: Ray puts sockets in it, whose paths have 107 characters
    begun = time.time()
    document: dict[str, Any] = {"about": about(flags.seed), "rows": []}
    cluster = Cluster(scratch)
    server = Server(scratch / "m", cluster.environment)
    try:
        server.start()
        cluster.heal()
        reference = undisturbed(scratch / "reference", cluster, server)
        say(f"undisturbed run after {time.time() - begun:.0f} s")
        for number in range(flags.injections):
            kind, place = kinds[number % len(kinds)], scratch / f"{number:02d}_{kinds[number % len(kinds)]}"
            row = injected(kind, FAULTS[kind], flags.seed, number, folder=place, cluster=cluster, server=server,
                           reference=reference)  # fmt: skip
            say(json.dumps(row))
            document["rows"].append(row)
            document["about"]["minutes"] = round((time.time() - begun) / 60, 1)
            write(flags.to, document)
    finally:
        cluster.stop()
        server.stop()
        if flags.keep:
            say(f"kept: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    return 0 if all(sound(row) for row in document["rows"]) else 1


EXPECTED = {0, 2, 130, -2, -9}  # done, one line of error, Ctrl-C (-2: in its last moments), killed by the campaign


def sound(row: dict[str, Any]) -> bool:
    """Whether an injection kept every promise."""
    zero = (row["lost"], row["twice"], row["tracebacks"], row["orphans"], *row["mlflow"].values())
    kept = row["complete"] and row["equal"] and row["repeated"] <= row["interval"]
    return kept and not any(zero) and set(row["statuses"]) <= EXPECTED


def about(seed: int) -> dict[str, Any]:
    """What the campaign ran on."""
    facts = origin.provenance()
    revision = facts["revision"][:12] + ("" if facts["dirty"] == "no" else f" with changes {facts['dirty']}")
    kept = ("python", "torch", "ray", "mlflow", "processor", "cores")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "revision": revision,
        **{name: facts[name] for name in kept},
        "mlflow_store": "SQLite",
        "seed": seed,
        "workers": 2,
        "arms": study.ARMS,
        "seeds": study.SEEDS,
        "trials": study.ARMS * study.SEEDS,
        "epochs": study.EPOCHS,
        "checkpoint_seconds": study.CHECKPOINT_SECONDS,
    }


def write(to: Path, document: dict[str, Any]) -> None:
    """Both files."""
    to.mkdir(parents=True, exist_ok=True)
    (to / "reliability.json").write_text(json.dumps(document, indent=1) + "\n")
    (to / "reliability.md").write_text(report.markdown(document))


def say(text: str) -> None:
    """To whoever watches."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
