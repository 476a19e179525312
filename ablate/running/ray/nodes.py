"""Before the first trial on a cluster: every node that could run one sees the results, the data and the same code.

A task pinned to each node tells what it finds there, the driver looks likewise at its own, and what differs is one
line per node. The results folder is known again by a marker that the driver writes and each node answers.
"""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ablate import registry
from ablate.datasets import build_dataset
from ablate.errors import AblateError, ServiceError, StoreError
from ablate.machine import modules, origin
from ablate.running.ray import cluster
from ablate.storage import Place, opened
from ablate.study import Budget, Part, Trial
from ablate.training import weights
from ablate.training.site import Site, packed, unpacked

PATIENCE = 300.0  # seconds for all nodes together: a first import of torch over a network file system is slow
DIGEST = 16  # hexadecimal digits of a data set's or a plugin's digest
Facts = dict[str, str]
Node = dict[str, Any]  # as ray.nodes() gives it


def check_nodes(
    ray: Any,
    trials: list[Trial],
    site: Site,
    budget: Budget,
    plugins: tuple[str, ...] = (),
    *,
    patience: float = PATIENCE,
) -> None:
    """Ask every node that a trial fits on; waits at most `patience` seconds.

    Raises:
        ServiceError: some node is not ready; the error's notes are one line for each such node.
        StoreError: the results folder cannot be written from here.
    """
    nodes = cluster.able(ray.nodes(), budget)
    place = opened(site.results)
    with _marked(place) as (marker, content):
        question = {
            "site": packed(site),
            "trials": [trial.model_dump_json() for trial in _different(trials)],
            "plugins": list(plugins),
            "marker": marker,
        }
        answers = _ask(ray, nodes, question, site.gpu, patience)
        ours = look(question, "driver")
        lines = []
        for node in nodes:
            found = answers[node["NodeID"]]
            answered = place.read(f"{marker}-{node['NodeID']}") == content
            problems = [found] if isinstance(found, str) else list(_differences(ours, found, node, answered))
            if problems:
                where = f"{node['NodeManagerAddress']} ({node['NodeManagerHostname']})"
                lines.append(f"node {where}: {'; '.join(problems)}")
    if lines:
        error = ServiceError(f"{len(lines)} of {len(nodes)} nodes cannot run this study; no trial has begun")
        for line in lines:
            error.add_note(line)
        raise error


@contextmanager
def _marked(place: Place) -> Iterator[tuple[str, bytes]]:
    """The name and the content, both random, of a document beside the results, and a lock of that name held; all that
    and the nodes' answers go afterwards."""
    marker, content = f"preflight/{secrets.token_hex(8)}", secrets.token_hex(8).encode()
    place.write(marker, content)
    try:
        with place.hold(f"{marker}-lock"):
            yield marker, content
    finally:
        left = [name for name in place.sizes("preflight") if name.startswith(marker)]
        for name in sorted(left, key=lambda name: name == marker):  # the last one takes the folder with it
            place.remove(name)


def _different(trials: list[Trial]) -> list[Trial]:
    """One trial for each data set and starting weights."""
    return list({(t.recipe.dataset.model_dump_json(), str(t.recipe.weights)): t for t in trials}.values())


def _ask(ray: Any, nodes: list[Node], question: dict[str, Any], gpus: bool, patience: float) -> dict[str, Facts | str]:
    """By node id, what the node found, or in words why it did not answer."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # A function in a function travels by value, so a node without our code still answers. Its process ends with it.
    def look_there(question: dict[str, Any], name: str) -> Facts | str:
        try:
            from ablate.running.ray.nodes import look
        except ImportError as error:
            return f"{error}: install the driver's ablate into the environment that Ray was started from"
        return look(question, name)

    there = ray.remote(num_cpus=0, max_calls=1, max_retries=0)(look_there)
    asked = {}
    for node in nodes:
        pinned = there.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        asked[node["NodeID"]] = pinned.remote(question | {"gpus": gpus}, node["NodeID"])
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=patience)
    return {node: _answer(ray, task, patience) for node, task in asked.items()}


def _answer(ray: Any, task: Any, patience: float) -> Facts | str:
    try:
        found: Facts | str = ray.get(task, timeout=0)
    except ray.exceptions.GetTimeoutError:
        ray.cancel(task, force=True)
        return f"gave no answer within {patience:g} s: see `ray status`, and stop or restart Ray there"
    except ray.exceptions.RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return f"could not be asked ({(lines or [type(error).__name__])[-1][:200]}): see `ray status`"
    return found


def _differences(ours: Facts, found: Facts, node: Node, answered: bool) -> Iterator[str]:
    """What a node has otherwise than the driver, and how to mend it."""
    packages = origin.decisive().keys()
    versions = [name for name in packages if found.get(name) != ours[name]]
    if versions:
        told = ", ".join(f"{name} {found.get(name, 'absent')} instead of {ours[name]}" for name in versions)
        yield f"{told} (install the driver's versions there, or start Ray from the driver's environment)"
    if found.get("ablate") != ours["ablate"]:
        yield "other code of ablate (check out the driver's revision there)"
    if found.get("results") != ours["results"] or not answered:
        yield f"results: {found.get('results')} (mount the driver's results storage at this path)"
    for name in ours:
        if name not in ("ablate", "results", *packages) and found.get(name) != ours[name]:
            yield f"{name}: {_unlike(found.get(name, 'missing'))}"
    seen, owned = found.get("gpus", ""), node["Resources"].get("GPU", 0)
    if seen and not (seen.isdecimal() and int(seen) >= owned):
        yield f"torch sees {seen} GPUs, Ray {owned:g} (check the driver and torch's CUDA build with `nvidia-smi`)"


def _unlike(fact: str) -> str:
    return "other content than the driver's" if len(fact) == DIGEST and " " not in fact else fact


def look(question: dict[str, Any], name: str) -> Facts:
    """What is found here; anything that goes wrong is a fact in words. Runs on the nodes and in the driver."""
    site = unpacked(question["site"])
    facts = origin.decisive()
    facts["ablate"] = origin.sources()
    facts["results"] = _told(_answer_marker, str(site.results), question["marker"], name)
    for plugin in question["plugins"]:
        facts[f"plugin {plugin}"] = _told(_plugin, plugin)
    for text in question["trials"]:
        facts |= _data(Trial.model_validate_json(text), site)
    if question.get("gpus"):
        facts["gpus"] = _told(_count_gpus)
    return facts


def _told(find: Callable[..., str], *arguments: Any) -> str:
    try:
        return find(*arguments)
    except AblateError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _answer_marker(results: str, marker: str, name: str) -> str:
    """The marker's content, after writing it back beside it under the node's name; the driver's lock is seen, too."""
    place = opened(results)
    content = place.read(marker)
    if content is None:
        here = "is not the driver's folder" if "://" in results or Path(results).is_dir() else "is not there"
        raise StoreError(f"{results} {here}")
    if not place.is_held(f"{marker}-lock"):
        raise StoreError(f"{results}: a lock that the driver holds there is not seen here")
    place.write(f"{marker}-{name}", content)
    return content.decode()


def _plugin(plugin: str) -> str:
    registry.load_plugins((plugin,))
    return modules.imported(plugin).digest


def _data(trial: Trial, site: Site) -> Facts:
    """The digests of a trial's data set, and that its starting weights are there and fit."""
    part, recipe_weights = trial.recipe.dataset, trial.recipe.weights
    facts = {}
    for split in ("train", "val"):
        facts[f"{part.knobs.get('set', part.name)}, {split}"] = _told(_verified, part, split, site)
    if recipe_weights:
        facts[f"starting weights {recipe_weights.file}"] = _told(_checked, trial, site)
    return facts


def _verified(part: Part, split: Any, site: Site) -> str:
    return build_dataset(part).open(split, site.data).verify()


def _checked(trial: Trial, site: Site) -> str:
    weights.check(trial.recipe, site)
    return "fit"


def _count_gpus() -> str:
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        del os.environ["CUDA_VISIBLE_DEVICES"]  # Ray hides them from a task that asks for none; this process ends soon
    import torch

    return str(torch.cuda.device_count())
