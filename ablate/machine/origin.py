"""Where a number was made: revision, versions, hardware and threads, and what this processor can do.

Nothing here imports torch, so that plans and reports stay light; the process that trains adds what only it knows.
Nothing here costs a result: names and contents are bytes, and what cannot be read counts as that.
"""

import os
import platform
import stat
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

from ablate.errors import StoreError

PACKAGES = ("torch", "ray", "mlflow", "numpy", "opencv-python-headless", "pycocotools")
DECISIVE = (  # packages that what is trained may depend on
    "torch", "torchvision", "timm", "segmentation-models-pytorch", "numpy", "scipy", "opencv-python-headless",
    "pycocotools", "pydantic", "safetensors", "ray",
)  # fmt: skip
OURS = ("ablate", "hrnet_core")
PACKAGE, THIS = "ablate-backbones", "ablate/machine/origin.py"


@cache
def provenance() -> dict[str, str]:
    """Revision, whether the tree was clean, package versions and hardware, as plain text values."""
    facts = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    facts |= {"processor": processor(), "cores": str(os.cpu_count())}
    facts |= {package: version(package) for package in PACKAGES}
    return facts | revision()


@cache
def revision() -> dict[str, str]:
    """The git commit of the code that runs and a digest of its uncommitted changes; of an installed copy its version
    and a digest of what was changed since; of any other copy 'unknown' and a digest of its files."""
    import hashlib

    root = Path(__file__).parents[2]
    # The repository that an environment happens to lie in is not the one that the code is of.
    commit = _git(root, "rev-parse", "HEAD") if _git(root, "ls-files", "--", THIS) else None
    if not commit:
        return _copied(root)
    changes = _git(root, "diff", "--no-ext-diff", "--no-textconv", "HEAD", "--", *OURS)
    new = _git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", *OURS)
    if changes is None or new is None:
        return {"revision": commit.decode().strip(), "dirty": "unknown"}
    for name in filter(None, new.split(b"\0")):
        changes += name + b"\0" + _content(root / os.fsdecode(name))
    dirty = hashlib.blake2b(changes, digest_size=6).hexdigest() if changes.strip() else "no"
    return {"revision": commit.decode().strip(), "dirty": dirty}


def _copied(root: Path) -> dict[str, str]:
    """The revision of a copy that is no checkout."""
    import csv

    for installed in metadata.distributions(name=PACKAGE, path=[str(root)]):
        record = csv.reader((installed.read_text("RECORD") or "").splitlines())  # `files` leaves out what is gone
        as_installed = {root / line[0]: line[1] for line in record if len(line) == 3 and line[1]}
        if root / THIS in as_installed:
            ours = [path for path in as_installed if path.relative_to(root).parts[0] in OURS]
            changed = {path for path in ours if _recorded(path) != as_installed[path]}
            changed |= {path for path in _files(root) if path not in as_installed}
            return {"revision": installed.version, "dirty": digest(sorted(changed)) if changed else "no"}
    return {"revision": "unknown", "dirty": f"files {digest(_files(root))}"}


def _recorded(path: Path) -> str:
    """A file's content as an installation records it; empty for none."""
    import base64
    import hashlib

    if not path.is_file():
        return ""
    return f"sha256={base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).decode().rstrip('=')}"


@cache
def sources() -> str:
    """A digest of the code that runs: equal on two machines if they have the same files of ours."""
    return digest(_files(Path(__file__).parents[2]))


def _files(root: Path) -> list[Path]:
    """Our code below a folder. Hidden files hold no code that runs; an editor's come and go."""
    files = [path for package in OURS for path in sorted((root / package).rglob("*"))]
    return [path for path in files if path.suffix in (".py", ".json") and not path.name.startswith(".")]


def decisive() -> dict[str, str]:
    """The versions of Python and of packages that what is trained may depend on."""
    return {"python": platform.python_version()} | {package: version(package) for package in DECISIVE}


@cache
def code() -> str:
    """A digest of our code and of the decisive versions: equal in processes that may train together."""
    import hashlib

    return f"{sources()}-{hashlib.blake2b(repr(decisive()).encode(), digest_size=4).hexdigest()}"


def refuse_other(expected: str) -> None:
    """Nodes may join a cluster after it was looked over, and files may change under a long run.

    Raises:
        StoreError: this process has other code, or other packages, than the one that says what it expects.
    """
    if code() != expected:
        raise StoreError(f"{platform.node()}: other code of ablate, or other packages, than the driver began with")


def digest(files: Iterable[Path]) -> str:
    """16 hexadecimal digits of the files' names and content."""
    import hashlib

    content = hashlib.blake2b(digest_size=8)
    for file in files:
        content.update(os.fsencode(file.name) + b"\0" + _content(file))
    return content.hexdigest()


def _content(file: Path) -> bytes:
    """What a file holds; of a link to nothing or to a folder, where it leads; a word where it cannot be read."""
    try:
        if stat.S_ISREG(file.stat().st_mode):
            return file.read_bytes()
    except OSError:
        pass
    try:
        return b"a link to " + os.fsencode(file.readlink())
    except OSError:
        return b"cannot be read"


def processor() -> str:
    """The processor's model name, as the system gives it."""
    for line in _cpuinfo():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def has_bf16() -> bool:
    """Whether this processor multiplies bfloat16 natively (AVX512-BF16, AMX, or Arm's BF16 extension)."""
    flags = next((line for line in _cpuinfo() if line.startswith(("flags", "Features"))), "").split()
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags))


@cache
def _cpuinfo() -> tuple[str, ...]:
    path = Path("/proc/cpuinfo")
    return tuple(path.read_text().splitlines()) if path.exists() else ()


def version(package: str) -> str:
    """Of an installed package, or 'absent'."""
    try:
        return str(metadata.version(package) or "unknown")  # None where an installation is damaged
    except metadata.PackageNotFoundError:
        return "absent"
    except KeyError:
        return "unknown"


def _git(root: Path, *arguments: str) -> bytes | None:
    """What git says of the repository that `root` lies in, in bytes, for names and contents may be no UTF-8.

    None where it does not answer.
    """
    # Git keeps away from another user's checkout, whose settings may name programs; but its Python files run already.
    command = ["git", "-c", "safe.directory=*", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # of a git hook
    try:
        run = subprocess.run(command, cwd=root, env=environment, capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout if run.returncode == 0 else None
