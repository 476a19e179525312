"""What is fuzzed: every reader of a file that may have come from somebody else.

A target writes an input into a folder of its own and reads it back as a command would. It ends in a value or raises
an AblateError; whatever else happens is a finding.
"""

# ruff: noqa: E501  (tables of cases)

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from fuzz.inputs import Trap, archives, as_json, bytes_near, near, texts_near
from hypothesis import strategies as st
from small_studies import small_study

from ablate.analysis import gather
from ablate.datasets import picture_problem, read_header, read_picture
from ablate.datasets._label_numbers import IDENTITY, read_numbers
from ablate.datasets.coco_pose import CocoPose
from ablate.datasets.make.archive import opened
from ablate.errors import DamagedError
from ablate.network.build import build
from ablate.planning.last_run import compared, last_run
from ablate.report import blocks, latex, markdown
from ablate.storage import Cost, Epoch, Result, Store, damage, imported, sweep
from ablate.study import Design, Recipe, Study, Trial, Weights, check_study, load
from ablate.training import weights
from ablate.training.fit import Training, _digest
from ablate.training.site import Site
from hrnet_core import HRNet, HRNetConfig, from_checkpoint

STUDIES = sorted((Path(__file__).parent.parent.parent / "studies").glob("*.yaml"))


@dataclass(frozen=True)
class Target:
    """A reader: what it is fed, and how it reads an input that has been put into a folder."""

    inputs: st.SearchStrategy[Any]
    read: Callable[[Any, Path], object]
    share: int  # of all inputs, per cent


# -- studies ---------------------------------------------------------------------------------------------------

PARTS = {"name": "small", "scales": {"a": {"recipe": {"train": {"epochs": 2}}, "seeds": 1, "budget": {"cpus": 2}}}}
MATCHED = {"depth": {"at": "model.depth", "levels": [1, 2], "match": {"gmacs": "control", "by": "model.width"}}}


@cache
def studies() -> list[str]:
    """Good ones: those of the project, and small ones that use every key."""
    made = [small_study(**PARTS), small_study(factors=MATCHED), small_study(paper="t", sections=["answer"], note="n")]
    made.append(
        small_study(design="full_factorial", factors=MATCHED | {"lr": {"at": "train.lr", "levels": [0.1, 1.0]}})
    )
    start = {"file": "weights/a.pth", "sha256": "0" * 64, "entry": "x"}
    made.append(small_study(recipe=small_study()["recipe"] | {"weights": start, "train": {"preset": "pose"}}))
    from ablate.study.yaml_subset import parse

    return [json.dumps(document) for document in made + [parse(file.read_text()) for file in STUDIES]]


def read_study(content: bytes, folder: Path) -> list[Trial]:
    file = folder / "study.yaml"
    file.write_bytes(content)
    study = load(file)
    check_study(Design(study))
    return Design(study).trials


SHORT = st.text("abn:-[]{}#&*!|>'\"%@`,. \n\t0189eE_~?<=é\u2028", max_size=80).map(str.encode)
OWN, OURS = st.deferred(lambda: texts_near(studies()[:5])), st.deferred(lambda: texts_near(studies()[5:]))
STUDY = OWN | OWN | OWN | OURS | SHORT | st.deferred(lambda: bytes_near([file.read_bytes() for file in STUDIES]))


# -- results ---------------------------------------------------------------------------------------------------


def trial(seed: int = 0, depth: int = 1) -> Trial:
    document = small_study()["recipe"]
    document["model"] = {**document["model"], "depth": depth}
    recipe = Recipe.model_validate(document).settled(on_gpu=False)
    return Trial(
        arm={"depth": str(depth)}, seed=seed, recipe=recipe, data_version="1", meanings=recipe.meanings()
    )  # fmt: skip


ARRAYS = {"closeness/image_ids": np.arange(1, 6), "closeness/error": np.linspace(0, 1, 5)}


@cache
def results() -> list[str]:
    """Good documents, as the store would keep them."""
    made = []
    for at in (trial(), trial(1), trial(0, 2)):
        made.append(
            Result(
                id=at.id, recipe=at.recipe, seed=at.seed, data_version="1", meanings=at.meanings, status="done",
                data_digest={"train": "0" * 16, "val": "1" * 16}, scores={"closeness": 0.5, "near": 0.2}, seconds=1.5,
                curve=[Epoch(epoch=n, loss=1 / n, lr=1e-3, seconds=1, images_per_second=9) for n in (1, 2, 3)],
                cost=Cost(parameters=30, used_parameters=20, macs=10**6, image=(8, 8), uncounted=["add"]),
                env={"revision": "0" * 40, "dirty": "no", "torch": "2.9", "threads": "1"}, finished="2026-01-02T03:04:05+00:00",
            ).model_dump_json()
        )  # fmt: skip
    return made


@cache
def packed() -> bytes:
    return packed_as(ARRAYS)


def packed_as(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def sealed(body: Any, arrays: bytes) -> bytes:
    """A document whose checksums are right, whatever it says: a checksum is no signature."""
    text = as_json(body)
    try:
        canonical = json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        canonical = b""
    return b'{"checksum": "%s", "arrays": "%s", "result": %s}' % (
        digest(canonical).encode(), digest(arrays).encode(), text
    )  # fmt: skip


@st.composite
def result_folders(draw: Any) -> dict[str, bytes]:
    """The files of a trial's folder and of the folder around it, some of them not as they should be."""
    arrays = draw(archives([packed()])) if draw(st.integers(0, 2)) == 0 else packed()
    body = draw(near(results())) if draw(st.integers(0, 3)) else json.loads(results()[0])
    document = sealed(body, arrays)
    if draw(st.integers(0, 3)) == 0:
        document = draw(bytes_near([document]))
    files = {"result.json": document, "per_image.npz": arrays}
    if draw(st.integers(0, 9)) == 0:
        del files[draw(st.sampled_from(sorted(files)))]
    if draw(st.integers(0, 4)) == 0:
        files["../../store.json"] = draw(texts_near(['{"version": 1}']))
    if draw(st.integers(0, 4)) == 0:
        solved = draw(near(['{"0": {"value": 4, "macs": 10, "aim": 10}}']))
        files["../../matched.json"] = as_json({"checksum": solved_digest(solved), "solved": solved})
    return files


def solved_digest(solved: Any) -> str:
    try:
        text = json.dumps(json.loads(as_json(solved)), sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        return ""
    return digest(text.encode())


def lay(files: dict[str, bytes], folder: Path) -> Path:
    """A results folder with a good trial and one that is made of `files`; the latter's id."""
    for place, given in ((trial(1).id, {"result.json": sealed(json.loads(results()[1]), packed()), "per_image.npz": packed()}),
                         (trial().id, files)):  # fmt: skip
        home = folder / "trials" / place
        home.mkdir(parents=True)
        for name, content in given.items():
            (home / name).write_bytes(content)
    return folder


def read_result(files: dict[str, bytes], folder: Path) -> object:
    from ablate.errors import StoreError

    store, own = Store(lay(files, folder / "results")), trial().id
    shelf = store.read()
    for found in shelf.results.values():
        found.model_dump_json(indent=2)
    for look in (store.get, store.find, store.statistics):
        try:
            look(own)
        except StoreError as error:
            readable(error)
    return imported_well(folder)


def imported_well(folder: Path) -> object:
    """Of what is taken in, the scores come of the statistics, and the id of the recipe and seed."""
    mine = Store(folder / "mine")
    taken = imported(folder / "results", mine)
    for line in taken.refused:
        assert line.isprintable(), repr(line)[:300]
    for found in mine.read().results.values():
        assert found.imported
        assert found.id in found.answers()
        if found.scores:
            assert found.scores["closeness"] == 0.5
    return taken


@st.composite
def published_folders(draw: Any) -> dict[str, bytes]:
    """Results that are whole and sealed, and say something else, or come with other arrays than theirs."""
    body, arrays = draw(near(results()[:1])), packed()
    if draw(st.booleans()):
        chosen = dict(ARRAYS)
        for _ in range(draw(st.integers(0, 2))):
            chosen[
                draw(
                    st.sampled_from(
                        [*ARRAYS, "closeness/x", "mean_iou/image_ids", "mean_iou/cell", "pck/image_ids", "x/y", "/"]
                    )
                )
            ] = draw(st.sampled_from(ODD_ARRAYS))
        arrays = packed_as(chosen)
    return {"result.json": sealed(body, arrays), "per_image.npz": arrays}


ODD_ARRAYS = [np.zeros(0), np.zeros(()), np.arange(5), np.full(5, np.nan), np.full(5, 2**31 - 1), np.full(5, -1), np.full(5, 1e308),
              np.array(["a"] * 5), np.zeros((5, 5)), np.zeros(5, bool), np.zeros(5, complex), np.zeros(2**18), np.array(["x"] * 300)]  # fmt: skip


def read_published(files: dict[str, bytes], folder: Path) -> object:
    taken: Any = (lay(files, folder / "results"), imported_well(folder))[1]
    if taken.refused:
        raise DamagedError(taken.refused[0])
    return taken


@cache
def small() -> Study:
    return Study.model_validate(small_study(seeds=2))


def read_report(files: dict[str, bytes], folder: Path) -> object:
    evidence = gather(Design(small()), Store(lay(files, folder / "results")))
    content = blocks(evidence)
    return markdown.render(content, lambda figure: figure.name), latex.render(content, lambda figure: figure.name)


def readable(error: Exception) -> None:
    """An error of ours is one line, and nothing in it moves a terminal's cursor."""
    text = str(error)
    assert text.isprintable(), repr(text)[:300]


# -- training states and starting weights -----------------------------------------------------------------------


@cache
def training() -> Training:
    """A small network after one step, so that its optimiser has something to save."""
    at = trial()
    net = build(at.recipe)
    made = Training(at, net, torch.device("cpu"))
    net(torch.zeros(2, 3, 8, 8)).sum().backward()
    made.optimizer.step()
    made.curve.append(Epoch(epoch=1, loss=0.5, lr=0.1, seconds=1, images_per_second=2))
    return made


@cache
def state() -> bytes:
    return training().state()


NAMES = ["net/", "net/x", "optimizer/0/step", "optimizer/99999/exp_avg", "optimizer/-1/exp_avg", "optimizer/a/b", "optimizer/0",
         "optimizer/0/exp_avg/x", "optimizer/0/other", "", "/", "optimizer/" + "9" * 5000 + "/step"]  # fmt: skip
TENSORS = [torch.zeros(0), torch.zeros(()), torch.zeros(3, 4), torch.zeros(1, dtype=torch.int64), torch.full((2,), torch.nan),
           torch.zeros(1, dtype=torch.bool), torch.zeros(2, dtype=torch.bfloat16), torch.zeros(4, 3, 3, 3)]  # fmt: skip


@st.composite
def states(draw: Any) -> bytes:
    """Saved states: damaged, cut, or sealed anew round tensors and a curve that do not belong there."""
    if draw(st.booleans()):
        return draw(bytes_near([state()]))
    tensors = dict(safetensors.torch.load(state()))
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(sorted(tensors) + NAMES))
        if draw(st.booleans()):
            tensors.pop(name, None)
        else:
            tensors[name] = draw(st.sampled_from(TENSORS)).clone()
    curve = [json.loads(row.model_dump_json()) for row in training().curve]
    text = (
        as_json(draw(near([json.dumps(curve)]))).decode("utf-8", "replace")
        if draw(st.booleans())
        else json.dumps(curve)
    )
    header = {"curve": text, "digest": _digest(tensors, text)}
    if draw(st.integers(0, 5)) == 0:
        header.pop(draw(st.sampled_from(sorted(header))))
    content = safetensors.torch.save(tensors, header)
    return draw(bytes_near([content])) if draw(st.integers(0, 5)) == 0 else content


def content_of(state: bytes) -> str:
    """A digest of what a state holds; safetensors writes its header in no fixed order."""
    return str(json.loads(state[8 : 8 + int.from_bytes(state[:8], "little")])["__metadata__"]["digest"])


def read_state(content: bytes, folder: Path) -> object:
    made = training()
    saved = made.state()
    before = content_of(saved)
    taken_up = made.resume(content)
    if taken_up:
        for parameter in made.net.parameters():
            parameter.grad = torch.zeros_like(parameter)
        made.optimizer.step()
        assert made.resume(saved)
    assert content_of(made.state()) == before, "a damaged state changed something"
    if not taken_up:
        raise DamagedError("state: not taken up")  # what it is to whoever asks for it
    return None


@cache
def checkpoints() -> tuple[list[bytes], list[bytes]]:
    """Good ones as torch.save (two formats) and as safetensors write them."""
    net = {name: value.contiguous() for name, value in training().net.backbone.state_dict().items()}
    torches = []
    for content in ({"state_dict": {f"module.{k}": v for k, v in net.items()}, "epoch": 3}, net):
        for new in (True, False):
            buffer = io.BytesIO()
            torch.save(content, buffer, _use_new_zipfile_serialization=new)
            torches.append(buffer.getvalue())
    return torches, [safetensors.torch.save(net, {"a": "b"})]


class Odd:
    """Objects that torch's restricted unpickler makes, and a trainer does not expect."""

    @staticmethod
    def made() -> list[Any]:
        within: dict[str, Any] = {}
        within["a"] = within
        tangled: dict[str, Any] = {"w": torch.zeros(1)}
        for _ in range(60):
            tangled = {"a": tangled, "b": tangled}
        wide = torch.zeros(1).expand(10**6, 10**6)
        deep: dict[str, Any] = {"w": torch.zeros(1)}
        for _ in range(100):  # what pickle can write; 3,000 are among the tests
            deep = {"a": deep}
        names = training().net.backbone.state_dict()
        return [
            within, tangled, {"w": wide}, deep, {"a." * 20_000 + "w": torch.zeros(1)}, {"a" * 10**6: {"w": torch.zeros(1)}},
            {(1, 2): torch.zeros(1), None: torch.zeros(1)}, {10**4000: {"w": torch.zeros(1)}}, {"w": torch.zeros(2**40, 0, 3)}, [], 3, "text", {3: torch.zeros(1)}, {"w": torch.zeros(1, device="meta")}, {"a": Trap()},
            {name: torch.zeros_like(value).to_sparse() for name, value in names.items()},
            {name: torch.zeros_like(value, device="meta") for name, value in names.items()},
            {name: torch.zeros_like(value, dtype=torch.complex64) for name, value in names.items()},
            {name: torch.zeros_like(value, dtype=torch.bool) for name, value in names.items()},
            {name: torch.zeros((), dtype=torch.float64).expand(value.shape) for name, value in names.items()},
            {name: torch.quantize_per_tensor(torch.zeros(value.shape), 0.1, 0, torch.qint8) for name, value in names.items()},
        ]  # fmt: skip


@cache
def odd() -> list[bytes]:
    made = []
    for content in Odd.made():
        buffer = io.BytesIO()
        torch.save(content, buffer)
        made.append(buffer.getvalue())
    bomb = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(made[0])) as good, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        for name in good.namelist():
            file.writestr(name, good.read(name))
        file.writestr("archive/data/9", bytes(30 * 2**20))
    return [*made, bomb.getvalue()]


@st.composite
def weights_files(draw: Any) -> tuple[str, bytes]:
    torches, tensors = checkpoints()
    kind = draw(st.sampled_from([".pth", ".safetensors", "odd"]))
    if kind == "odd":
        return ".pth", draw(st.sampled_from(odd()))
    return kind, draw(bytes_near(torches if kind == ".pth" else tensors))


def read_weights(given: tuple[str, bytes], folder: Path) -> object:
    suffix, content = given
    (folder / f"w{suffix}").write_bytes(content)
    named = Weights(file=f"w{suffix}", sha256=hashlib.sha256(content).hexdigest())
    backbone = training().net.backbone
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    try:
        return weights.start(backbone, named, Site(results=folder, data=folder))
    finally:
        backbone.load_state_dict(before)


@cache
def hrnets() -> tuple[list[bytes], list[bytes]]:
    """A small HRNet's checkpoint, as torch and as safetensors write it, and what an attacker makes of it."""
    net = {
        k: v.contiguous()
        for k, v in HRNet(HRNetConfig(width=2, blocks=1, modules=(1, 1, 1), stage1_blocks=1)).state_dict().items()
    }
    bad = [
        {k: torch.zeros(()).expand(v.shape) for k, v in net.items()},
        {k: torch.zeros(()).expand([64 * n for n in v.shape]) for k, v in net.items()},
        net | {f"stage2.{n}.branches.0.0.conv1.weight": torch.zeros(1) for n in range(2000)},
        net | {f"stage9.{n}.branches.{n}.{n}.conv1.weight": torch.zeros(1, 1) for n in range(50)},
        {"stage2.0.branches.0.0.conv1.weight": torch.zeros(1)}, net | {"conv1.weight": torch.zeros(())},
        net | {"stage2.0.fuse_layers.9.9.x": torch.zeros(1), "layer1.0.conv1.weight": torch.zeros(0)},
        {"a": net, "b": net}, {3: net}, {"state": {k.replace("stage", "layer"): v for k, v in net.items()}},
    ]  # fmt: skip
    made = []
    for content in [net, *bad]:
        buffer = io.BytesIO()
        torch.save(content, buffer)
        made.append(buffer.getvalue())
    return made, [safetensors.torch.save(net)]


@st.composite
def hrnet_files(draw: Any) -> tuple[str, bytes]:
    torches, tensors = hrnets()
    kind = draw(st.sampled_from([".pth", ".safetensors", "odd"]))
    if kind == "odd":
        return ".pth", draw(st.sampled_from([*torches, *odd()]))
    return kind, draw(bytes_near(torches if kind == ".pth" else tensors))


def read_checkpoint(given: tuple[str, bytes], folder: Path) -> object:
    suffix, content = given
    (folder / f"w{suffix}").write_bytes(content)
    try:
        return from_checkpoint(folder / f"w{suffix}", upsample="nearest")
    except ValueError as error:  # as hrnet_core raises what ablate makes one line of
        raise DamagedError(str(error)) from None


# -- data ------------------------------------------------------------------------------------------------------


@cache
def pictures() -> list[bytes]:
    import cv2

    noise = np.random.default_rng(0).integers(0, 5, (6, 5), np.uint8)
    made = [
        cv2.imencode(suffix, picture)[1].tobytes()
        for suffix in (".png", ".jpg")
        for picture in (noise, np.dstack([noise] * 3))
    ]
    huge = bytearray(made[0])
    huge[16:24] = (60_000).to_bytes(4, "big") * 2  # width and height that its header promises
    import zlib

    huge[29:33] = zlib.crc32(bytes(huge[12:29])).to_bytes(4, "big")
    return [*made, bytes(huge)]


def numbers(file: Path) -> object:
    return read_numbers(file, IDENTITY.astype("uint8"))


def read_pictures(content: bytes, folder: Path) -> object:
    from ablate.errors import DataError

    file = folder / "picture.png"
    file.write_bytes(content)
    picture_problem(file)
    refused = None
    for read in (read_picture, numbers, read_header):
        try:
            read(file)
        except DataError as error:
            readable(error)
            refused = error
    if refused:
        raise refused
    return None


def mostly(document: Any) -> st.SearchStrategy[bytes]:
    """A good document as it is, or damaged."""
    return st.just(as_json(document)) | texts_near([json.dumps(document)])


JOINTS = [0] * 51
COCO = {
    "images": [{"id": 1, "file_name": "1.png", "height": 6, "width": 5}, {"id": 2, "file_name": "2.png", "height": 6, "width": 5}],
    "annotations": [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [0, 0, 4, 4], "area": 16, "iscrowd": 0, "keypoints": [2, 2, 2, *JOINTS[3:]],
         "num_keypoints": 1} for n in (1, 2)
    ],
    "categories": [{"id": 1, "name": "person"}],
}  # fmt: skip
BOXES = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], "score": 0.5}]


def read_coco(given: tuple[bytes, bytes], folder: Path) -> object:
    from ablate.tasks._detected_people import DetectedPeople

    home = folder / "coco"
    (home / "annotations").mkdir(parents=True)
    (home / "images").mkdir()
    for number in (1, 2):
        (home / "images" / f"{number}.png").write_bytes(pictures()[1])
    (home / "annotations" / "person_keypoints_val.json").write_bytes(given[0])
    (home / "boxes.json").write_bytes(given[1])
    samples = CocoPose(set="coco").open("val", folder)
    samples.check(thorough=True)
    samples.ground_truth()
    for index in range(len(samples)):
        samples[index]
    detected = DetectedPeople.read(samples, "boxes.json")
    return [detected[index] for index in range(len(detected))]


@cache
def zips() -> list[bytes]:
    made = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as file:
            file.writestr("top/list.txt", "a.png\n")
            file.writestr("top/a.png", pictures()[0])
            file.writestr("top/bomb.txt", bytes(3 * 10**6))
            file.writestr("../top/x.txt", "x")
        made.append(buffer.getvalue())
    return made


def read_archive(content: bytes, folder: Path) -> object:
    from ablate.errors import DataError

    file = folder / "a.zip"
    file.write_bytes(content)
    with opened(file, beside="list.txt", limits={".txt": 2**20, ".png": 2**20}) as read:
        for name in ("list.txt", "a.png", "bomb.txt", "../x.txt", "/etc/hostname", "none.txt", "x"):
            try:
                read(name)
            except DataError as error:
                readable(error)
    return None


# -- what `status`, `gc` and `plan` look at beside results -----------------------------------------------------

RUN = {
    "started": "2026-01-02T03:04:05+00:00", "basis": "recorded times", "predicted_seconds": {"ab": 1.5, "cd": 2.5},
    "at_once": 2, "ended": "2026-01-02T03:04:09+00:00", "seconds": 4.0, "busy_seconds": 3.0, "ran_at_once": 2, "ran": 2,
}  # fmt: skip


def read_housekeeping(given: tuple[bytes, bytes], folder: Path) -> object:
    store, (plan, saved) = Store(folder / "results"), given
    for name, content in ((f"plans/{small().name}.json", plan), (f"trials/{trial().id}/state", saved)):
        (folder / "results" / name).parent.mkdir(parents=True)
        (folder / "results" / name).write_bytes(content)
    run = last_run(small(), store)
    if run:
        compared(run, {})
    cut_short = damage(store)
    sweep(store, None, dry=True)
    if cut_short or not run:
        raise DamagedError("; ".join(cut_short) or "the plan tells nothing")  # what is made of it is no error
    return run


TARGETS = {
    "study": Target(STUDY, read_study, 35),
    "import": Target(published_folders(), read_published, 2),
    "checkpoint": Target(hrnet_files(), read_checkpoint, 3),
    "result": Target(result_folders(), read_result, 18),
    "housekeeping": Target(st.tuples(texts_near([json.dumps({"": RUN})]), states()), read_housekeeping, 4),
    "report": Target(result_folders(), read_report, 8),
    "state": Target(states(), read_state, 10),
    "weights": Target(weights_files(), read_weights, 5),
    "coco": Target(st.tuples(mostly(COCO), mostly(BOXES)), read_coco, 5),
    "pictures": Target(st.deferred(lambda: bytes_near(pictures())), read_pictures, 5),
    "archive": Target(st.deferred(lambda: bytes_near(zips())), read_archive, 5),
}


def emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder
