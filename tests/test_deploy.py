"""The files under deploy/: manifests against the schemas of those who read them, scripts run for real."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
from kubernetes import client
from launched import results
from small_studies import TESTS, small_study, write_study

from ablate.study import yaml_subset

ROOT = TESTS.parent
DEPLOY = ROOT / "deploy"
# What KubeRay 1.6 reads of the kinds that we write, from its API reference, ray.io/v1: field -> type. Names with a
# capital are kinds, of KubeRay (here) or Kubernetes (its own client's models). `!` marks what must be there.
KUBERAY = {
    "RayCluster": {"apiVersion!": "str", "kind!": "str", "metadata!": "V1ObjectMeta", "spec!": "RayClusterSpec"},
    "RayJob": {"apiVersion!": "str", "kind!": "str", "metadata!": "V1ObjectMeta", "spec!": "RayJobSpec"},
    "RayClusterSpec": {
        "rayVersion": "str",
        "authOptions": "AuthOptions",
        "headGroupSpec!": "HeadGroupSpec",
        "workerGroupSpecs": "list[WorkerGroupSpec]",
    },
    "AuthOptions": {"mode": "token|disabled"},
    "HeadGroupSpec": {
        "serviceType": "ClusterIP|NodePort|LoadBalancer",
        "rayStartParams": "dict(str, str)",
        "template!": "V1PodTemplateSpec",
    },
    "WorkerGroupSpec": {
        "groupName!": "str",
        "replicas": "int",
        "minReplicas!": "int",
        "maxReplicas!": "int",
        "rayStartParams": "dict(str, str)",
        "template!": "V1PodTemplateSpec",
    },
    "RayJobSpec": {
        "entrypoint": "str",
        "backoffLimit": "int",
        "shutdownAfterJobFinishes": "bool",
        "ttlSecondsAfterFinished": "int",
        "rayClusterSpec": "RayClusterSpec",
    },
}
SCALARS = {"str": str, "int": int, "bool": bool, "object": object}


def documents(name: str) -> list[dict]:
    return [yaml_subset.parse(text) for text in (DEPLOY / name).read_text().split("\n---\n")]


def problems(value, kind: str, where: str = "") -> list[str]:
    """What a reader of `kind` would refuse, one line each."""
    if kind.startswith(("list[", "List[")):
        return [p for i, entry in enumerate(value) for p in problems(entry, kind[5:-1], f"{where}[{i}]")]
    if kind.startswith(("dict(", "Dict[", "dict[")):
        inner = kind[5:-1].split(", ")[1]
        return [p for key, entry in value.items() for p in problems(entry, inner, f"{where}.{key}")]
    if "|" in kind:
        return [] if value in kind.split("|") else [f"{where}: {value!r} is none of {kind}"]
    if kind in SCALARS:
        right = isinstance(value, SCALARS[kind]) and (kind != "int" or not isinstance(value, bool))
        return [] if right else [f"{where}: {value!r} is no {kind}"]
    if kind in KUBERAY:
        fields = {name.rstrip("!"): (type_, name.endswith("!")) for name, type_ in KUBERAY[kind].items()}
    else:
        model = getattr(client, kind)
        fields = {outer: (model.openapi_types[name], False) for name, outer in model.attribute_map.items()}
    missing = [f"{where}.{name} is missing" for name, (_, needed) in fields.items() if needed and name not in value]
    unknown = [f"{where}.{name}: {kind} has no such field" for name in value if name not in fields]
    known = {name: entry for name, entry in value.items() if name in fields}
    return missing + unknown + [p for n, entry in known.items() for p in problems(entry, fields[n][0], f"{where}.{n}")]


@pytest.mark.parametrize("name", ["kuberay/raycluster.yaml", "kuberay/rayjob.yaml", "kuberay/storage.yaml"])
def test_manifests_fit_their_schemas(name):
    for document in documents(name):
        kind = document["kind"]
        assert not problems(document, kind if kind in KUBERAY else f"V1{kind}")


def test_a_misspelt_manifest_is_seen():
    """The check itself: a field of KubeRay's and one of a pod's, wrong; a number where a text belongs; one left out."""
    (document,) = documents("kuberay/raycluster.yaml")
    spec = document["spec"]
    spec["authOption"] = spec.pop("authOptions")
    spec["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    spec["headGroupSpec"]["template"]["spec"]["containers"][0]["volumemounts"] = []
    del spec["workerGroupSpecs"][0]["groupName"]
    assert len(problems(document, "RayCluster")) == 4


def test_clusters_that_kuberay_starts_ask_for_a_token():
    (cluster,), (job,) = documents("kuberay/raycluster.yaml"), documents("kuberay/rayjob.yaml")
    for spec in (cluster["spec"], job["spec"]["rayClusterSpec"]):
        assert spec["authOptions"] == {"mode": "token"}
        images = {group["template"]["spec"]["containers"][0]["image"] for group in groups(spec)}
        assert len(images) == 1  # nodes with other versions would be refused
    assert cluster["spec"]["headGroupSpec"]["rayStartParams"]["dashboard-host"] == "127.0.0.1"


def groups(spec: dict) -> list[dict]:
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def test_ray_up_takes_the_cluster_file():
    schema = json.loads(resources.files("ray").joinpath("autoscaler/ray-schema.json").read_text())
    (document,) = documents("ray-up/cluster.yaml")
    jsonschema.validate(document, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document | {"workers": 2}, schema)
    starts = [*document["head_start_ray_commands"], *document["worker_start_ray_commands"]]
    assert all("RAY_AUTH_MODE=token" in command for command in starts if "ray start" in command)
    assert "~/.ray/auth_token" in document["file_mounts"]


SCRIPTS = [DEPLOY / "ray-node", DEPLOY / "slurm" / "ablate.sbatch"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound(script):
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    found = subprocess.run(
        [Path(sys.executable).parent / "shellcheck", script], capture_output=True, text=True, check=False
    )
    assert not found.stdout


INSTRUCTIONS = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "FROM", "RUN", "USER", "WORKDIR"}
IMAGES = sorted(DEPLOY.glob("*/Dockerfile"))


def instructions(file: Path) -> list[tuple[str, str]]:
    """An image's recipe: (word, the rest of its line and of those that it goes on in)."""
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(" ", 1)) for line in "\n".join(lines).replace("\\\n", " ").splitlines()]


@pytest.mark.parametrize("file", IMAGES, ids=lambda path: path.parent.name)
def test_images_are_sound(file):
    recipe = instructions(file)
    assert {word for word, _ in recipe} <= INSTRUCTIONS
    assert recipe[0][0] == "FROM"
    commands = [rest for word, rest in recipe if word == "RUN"]
    assert any("uninstall --yes typing" in command for command in commands)
    for command in commands:
        checked = subprocess.run(
            [Path(sys.executable).parent / "shellcheck", "--shell=sh", "-"], input=f"{command}\n",
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert not checked.stdout


def test_the_image_for_cpus_does_not_run_as_root():
    recipe = instructions(DEPLOY / "docker" / "Dockerfile")
    words = [word for word, _ in recipe]
    user = dict(recipe)["USER"]
    assert user.isdecimal()  # Kubernetes' runAsNonRoot takes no name
    assert int(user) > 0
    assert words.index("USER") > max(place for place, word in enumerate(words) if word == "RUN")


def test_a_worker_without_the_heads_token_is_told(tmp_path):
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    run = subprocess.run(
        [DEPLOY / "ray-node", "worker", "127.0.0.1:1"], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert run.stderr == f"{tmp_path}/.ray/auth_token: no token; copy the head's here, with mode 600\n"


# Slurm's own commands, for one machine: the list of hosts, and a step that runs here. `requeue` leaves a note.
SCONTROL = """#!/bin/sh
case $1 in
    show) echo localhost; echo 127.0.0.2 ;;
    requeue) echo "$2" >"$HOME/requeued" ;;
esac
"""
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
if [ "$2" = head ]; then exec "$@" --include-dashboard false --object-store-memory 100000000; fi
exec "$@" --node-ip-address 127.0.0.2 --object-store-memory 100000000
"""


@pytest.fixture
def allocation(tmp_path):
    """The environment that Slurm gives a batch script, and the two commands of Slurm's that it calls."""
    home, place = tmp_path / "home", tmp_path / "bin"
    place.mkdir()
    home.mkdir(exist_ok=True)
    for name, text in (("scontrol", SCONTROL), ("srun", SRUN)):
        (place / name).write_text(text)
        (place / name).chmod(0o755)
    (place / "ablate").write_text(f'#!/bin/sh\nexec {sys.executable} -m ablate "$@"\n')
    (place / "ablate").chmod(0o755)
    (tmp_path / "deploy").symlink_to(DEPLOY)
    temporary = tempfile.mkdtemp(prefix="ray-")
    yield {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "ABLATE_", "MLFLOW_"))} | {
        "HOME": str(home), "PATH": f"{place}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{TESTS}", "RAY_TMPDIR": temporary, "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_CPUS_PER_TASK": "1",
    }  # fmt: skip
    shutil.rmtree(temporary, ignore_errors=True)


@pytest.mark.cluster
def test_a_slurm_job_runs_a_study_on_its_nodes(ablate, allocation, tmp_path):
    """The batch script as it is, with a head and a worker; nothing that it started is left."""
    study = write_study(tmp_path)
    script = DEPLOY / "slurm" / "ablate.sbatch"
    job = subprocess.run(
        [script, study, "--results", "results"], env=allocation, cwd=tmp_path, timeout=600,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert job.returncode == 0, job.stderr
    assert "4 trials ran, none failed" in job.stderr
    log = (tmp_path / f"ablate-{os.getpid()}.ray.log").read_text()
    assert log.count("Ray runtime started") == 2
    assert not (tmp_path / "home" / "requeued").exists()
    here = ablate("run", study, "--local", "--results", "here")
    assert here.returncode == 0, here.stderr
    assert results(tmp_path / "results") == results(tmp_path / "here")
    assert not subprocess.run(["pgrep", "-f", allocation["RAY_TMPDIR"]], capture_output=True, check=False).stdout


@pytest.mark.cluster
def test_a_slurm_job_at_its_time_limit_is_requeued_and_goes_on(ablate, allocation, tmp_path):
    """TERM to the batch script, as --signal=B:TERM sends it; the second job ends with an undisturbed run's numbers."""
    recipe = small_study()["recipe"]
    recipe["train"] |= {"epochs": 20}
    recipe["dataset"] = {"name": "noise", "train": 300}
    study = write_study(tmp_path, recipe=recipe, seeds=1, budget={"checkpoint_minutes": 0})
    command = [DEPLOY / "slurm" / "ablate.sbatch", study, "--results", "results"]
    first = subprocess.Popen(
        command, env=allocation, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    seen = []
    for line in first.stderr:
        seen.append(line)
        if "epoch 2/" in line:
            break
    first.terminate()
    seen.append(first.communicate(timeout=300)[1])
    assert first.returncode != 0
    assert "goes on from the saved states" in seen[-1], "".join(seen)
    assert (tmp_path / "home" / "requeued").read_text().strip() == allocation["SLURM_JOB_ID"]
    assert list((tmp_path / "results" / "trials").glob("*/state"))
    second = subprocess.run(command, env=allocation, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    whole = ablate("run", study, "--local", "--results", "whole")
    assert whole.returncode == 0, whole.stderr
    assert results(tmp_path / "results") == results(tmp_path / "whole")
