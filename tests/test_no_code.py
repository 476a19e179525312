"""No code comes out of a file: which calls stand in the packages, and that a pickle in any place is never run."""

# ruff: noqa: E501  (tables of cases)

import ast
import hashlib
import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from small_studies import write_study
from stored import ARRAYS, result, trial

from ablate.datasets import read_picture
from ablate.datasets._label_numbers import IDENTITY, read_numbers
from ablate.datasets.coco_pose import CocoPose
from ablate.errors import AblateError, DamagedError, DataError
from ablate.planning.match import solve
from ablate.storage import Store, imported
from ablate.storage.arrays import unpacked
from ablate.study import Weights, load
from ablate.training.run_trial import run_trial
from ablate.training.site import Site
from ablate.training.weights import find, start

ROOT = Path(__file__).parent.parent
FILES = sorted(path for package in ("ablate", "hrnet_core") for path in (ROOT / package).rglob("*.py"))
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
NEVER = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pd.read_pickle", "pandas.read_pickle", "yaml.unsafe_load",
    "yaml.full_load", "yaml.load_all", "np.fromfile", "torch.jit.load", "torch.package.PackageImporter", "torch.hub.load",
    "mlflow.pytorch.load_model", "mlflow.pyfunc.load_model",
}  # fmt: skip
ALLOWED = {("ablate/study/yaml_subset.py", "yaml.load")}  # by a safe loader
pytestmark = pytest.mark.usefixtures("small_shelf")


def faults(source: str, name: str) -> list[str]:
    """The lines that could run code from data."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imported_from = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            names = {alias.name for alias in node.names}
            # The error that torch's restricted reader raises is called so; it reads nothing.
            if {module.split(".")[0] for module in imported_from} & MODULES and names != {"UnpicklingError"}:
                found.append(f"{name}:{node.lineno}: imports {imported_from}")
        if not isinstance(node, ast.Call):
            continue
        called, keywords = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        wrong = (
            called in NEVER
            or (called == "yaml.load" and keywords.get("Loader") != "_Loader")
            or (called == "torch.load" and keywords.get("weights_only") != "True")
            or (called in ("np.load", "numpy.load") and keywords.get("allow_pickle") != "False")
            or (called.startswith("np.save") and keywords.get("allow_pickle") != "False")
            or keywords.get("shell") == "True"
            or keywords.get("allow_pickle") == "True"
        )
        if (wrong or called == "yaml.load") and (name, called) not in ALLOWED:
            found.append(f"{name}:{node.lineno}: {called}")
    return found


def test_nothing_in_the_packages_reads_code_from_data():
    found = [fault for path in FILES for fault in faults(path.read_text(), str(path.relative_to(ROOT)))]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from pickle import loads", "import joblib", "torch.load(x)", "torch.load(x, weights_only=False)",
        "np.load(x)", "np.load(x, allow_pickle=True)", "np.savez(x, y)", "yaml.load(x, Loader=yaml.Loader)", "eval(x)", "exec(x)",
        "subprocess.run(x, shell=True)", "pandas.read_pickle(x)", "yaml.load(x, Loader=_Loader)",
    ],
)  # fmt: skip
def test_the_search_finds_what_it_looks_for(line):
    assert faults(line, "ablate/other.py")


# -- the same, by trying ---------------------------------------------------------------------------------------


class Trap:
    """Its pickle makes a file when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def trap(tmp_path):
    """A trap that works, and was not sprung when the test ends."""
    mark = tmp_path / "sprung"
    pickle.loads(pickle.dumps(Trap(mark)))
    assert mark.exists()
    mark.unlink()
    yield Trap(mark)
    assert not mark.exists()


def as_npz(trap) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{"closeness/error": np.array([trap], dtype=object)})
    return buffer.getvalue()


def as_checkpoint(trap, *, zipped=True) -> bytes:
    buffer = io.BytesIO()
    torch.save({"state_dict": {"w": torch.zeros(1)}, "args": trap}, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def every_form(trap) -> list[bytes]:
    return [
        *(pickle.dumps(trap, protocol=protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)),
        as_npz(trap), as_checkpoint(trap), as_checkpoint(trap, zipped=False),
    ]  # fmt: skip


def test_in_a_results_folder(trap, tmp_path):
    for number, content in enumerate(every_form(trap)):
        for name in ("result.json", "per_image.npz", "../../store.json", "../../matched.json"):
            store = Store(tmp_path / f"{number}-{name.strip('./')}")
            store.create()
            store.put(result(), ARRAYS)
            store.put(result(1), ARRAYS)
            (store.folder(trial().id) / name).write_bytes(content)
            if name == "../../store.json":
                with pytest.raises(DamagedError):
                    Store(store.root)
                continue
            shelf = Store(store.root).read()
            assert trial(1).id in shelf.results
            imported(store.root, Store(tmp_path / f"mine-{store.root.name}"))
            solve(load(write_study(tmp_path)), store.root)


def test_with_a_checksum_that_is_right(trap, tmp_path):
    """A checksum tells damage, not who wrote a file."""
    store = Store(tmp_path / "results")
    store.put(result(), ARRAYS)
    folder = store.folder(trial().id)
    (folder / "per_image.npz").write_bytes(as_npz(trap))
    document = json.loads((folder / "result.json").read_text())
    document["arrays"] = hashlib.blake2b(as_npz(trap), digest_size=16).hexdigest()
    (folder / "result.json").write_text(json.dumps(document))
    assert list(store.read().results) == [trial().id]
    with pytest.raises(DamagedError, match="objects"):
        unpacked((folder / "per_image.npz").read_bytes(), at="a.npz")
    assert imported(store.root, Store(tmp_path / "mine")).new == []


def test_in_a_training_state(trap, tmp_path):
    for number, content in enumerate(every_form(trap)):
        store = Store(tmp_path / str(number))
        state = store.folder(trial().id) / "state"
        state.parent.mkdir(parents=True)
        state.write_bytes(content)
        *_, end = run_trial(trial(), Site(results=store.root))
        assert (end.status, end.reason) == ("done", "")


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".tar", ".safetensors"])
def test_in_starting_weights(trap, tmp_path, suffix):
    for content in every_form(trap):
        file = tmp_path / f"w{suffix}"
        file.write_bytes(content)
        named = Weights(file=file.name, sha256=hashlib.sha256(content).hexdigest())
        assert find(named, Site(results=tmp_path, data=tmp_path)) == file
        with pytest.raises(DataError, match=r"holds code|damaged"):
            start(torch.nn.Linear(1, 1), named, Site(results=tmp_path, data=tmp_path))


def test_in_a_study(trap, tmp_path):
    for content in every_form(trap):
        (tmp_path / "s.yaml").write_bytes(content)
        with pytest.raises(AblateError):
            load(tmp_path / "s.yaml")
    for tag in ("!!python/object/apply:os.system ['true']", "!!python/name:os.system", "!!python/module:os"):
        (tmp_path / "s.yaml").write_text(f"name: {tag}\n")
        with pytest.raises(AblateError, match="tags are not allowed"):
            load(tmp_path / "s.yaml")


def numbers(file):
    return read_numbers(file, IDENTITY.astype(np.uint8))


def test_in_a_data_folder(trap, tmp_path):
    from ablate.tasks._detected_people import DetectedPeople

    folder = tmp_path / "people"
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").mkdir()
    for content in every_form(trap):
        (folder / "images" / "1.png").write_bytes(content)
        for read in (read_picture, numbers):
            with pytest.raises(DataError):
                read(folder / "images" / "1.png")
        (folder / "annotations" / "person_keypoints_val.json").write_bytes(content)
        with pytest.raises(DataError):
            CocoPose(set="people").open("val", tmp_path)
        images = [{"id": 1, "file_name": "1.png", "height": 4, "width": 4}]
        document = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "person"}]}
        (folder / "annotations" / "person_keypoints_val.json").write_text(json.dumps(document))
        (folder / "boxes.json").write_bytes(content)
        with pytest.raises(DataError):
            DetectedPeople.read(CocoPose(set="people").open("val", tmp_path), "boxes.json")


# -- files that are larger than they look ----------------------------------------------------------------------


def test_arrays_that_promise_more_than_is_there_take_no_memory(tmp_path):
    for header in ("(1000000000000,)", "(4611686018427387904, 4)"):
        text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {header}, }}\n".encode()
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
            file.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + b"12345678")
        with pytest.raises(DamagedError, match="more than is there"):
            unpacked((tmp_path / "a.npz").read_bytes(), at="a.npz")


def test_arrays_that_grow_without_end_are_refused(tmp_path):
    size = 2**29 + 1
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size},), }}\n".encode()
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
        file.open("x.npy", "w") as member,
    ):
        member.write(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
        for _ in range(size // 2**20 + 1):
            member.write(bytes(2**20))
    assert (tmp_path / "a.npz").stat().st_size < 2**23
    with pytest.raises(DamagedError, match="more than 512 MiB"):
        unpacked((tmp_path / "a.npz").read_bytes(), at="a.npz")


def test_a_compressed_checkpoint_is_refused(tmp_path):
    with (
        zipfile.ZipFile(io.BytesIO(as_checkpoint(3))) as good,
        zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in good.namelist():
            bomb.writestr(name, good.read(name))
        bomb.writestr("archive/data/9", bytes(2**24))
    digest = hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()
    with pytest.raises(DataError, match="damaged or no checkpoint"):
        start(torch.nn.Linear(1, 1), Weights(file="w.pth", sha256=digest), Site(results=tmp_path, data=tmp_path))


def test_a_picture_whose_chunk_promises_more_than_the_file_is_refused(tmp_path):
    """OpenCV would make room for it, here a gigabyte and a half, before it reads."""
    import cv2

    good = cv2.imencode(".png", np.zeros((6, 5, 3), np.uint8))[1].tobytes()
    at = good.index(b"IDAT") - 4
    file = tmp_path / "wall.png"
    file.write_bytes(good[:at] + (0x1C580000).to_bytes(4) + good[at + 4 :])
    with pytest.raises(DataError, match="has a chunk that is longer than the file"):
        read_picture(file)
    file.write_bytes(good + b"\xff" * 100)  # appended data are no chunk
    assert read_picture(file).shape == (6, 5, 3)


def test_a_picture_that_promises_a_wall_is_refused(tmp_path):
    import zlib

    import cv2

    content = bytearray(cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes())
    content[16:24] = (30_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    (tmp_path / "p.png").write_bytes(content)
    for read in (read_picture, numbers):
        with pytest.raises(DataError, match="cannot be decoded"):
            read(tmp_path / "p.png")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"seeds": 1000, "factors": {"f": {"at": "train.lr", "levels": [n + 0.5 for n in range(150)]}}},
            "at most 100000 trials",
        ),
        ({"factors": {"f": {"at": "train.lr", "levels": [n + 0.5 for n in range(2000)]}}}, "2000 arms; at most 1000"),
        ({"note": "x" * 300_000}, "more than 262,144 characters"),
    ],
)
def test_a_study_of_more_than_anybody_trains_is_refused(tmp_path, changes, message):
    with pytest.raises(AblateError, match=message):
        load(write_study(tmp_path, **changes))
