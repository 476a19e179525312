"""Where a number was made: revision, versions, hardware and threads, and what this processor can do.

Nothing here imports torch, so that plans and reports stay light; the process that trains adds what only it knows.
"""

import os
import platform
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
    commit = _git(root, "rev-parse", "HEAD") if _git(root, "ls-files", "--", THIS) else ""
    if not commit:
        return _copied(root)
    changes = _git(root, "diff", "HEAD", "--", *OURS)
    for name in _git(root, "ls-files", "--others", "--exclude-standard", "--", *OURS).splitlines():
        changes += name + (root / name).read_bytes().hex()
    dirty = hashlib.blake2b(changes.encode(), digest_size=6).hexdigest() if changes else "no"
    return {"revision": commit, "dirty": dirty}


def _copied(root: Path) -> dict[str, str]:
    """The revision of a copy that is no checkout."""
    for installed in metadata.distributions(name=PACKAGE, path=[str(root)]):
        as_installed = {root / str(file): file.hash for file in installed.files or () if file.hash}
        if root / THIS in as_installed:
            ours = [path for path in as_installed if path.relative_to(root).parts[0] in OURS]
            changed = {path for path in ours if not _is_as_installed(path, as_installed[path])}
            changed |= {path for path in _files(root) if path not in as_installed}
            return {"revision": installed.version, "dirty": digest(sorted(changed)) if changed else "no"}
    return {"revision": "unknown", "dirty": f"files {digest(_files(root))}"}


def _is_as_installed(path: Path, recorded: metadata.FileHash) -> bool:
    import base64
    import hashlib

    if not path.is_file():
        return False
    content = hashlib.new(recorded.mode, path.read_bytes()).digest()
    return base64.urlsafe_b64encode(content).decode().rstrip("=") == recorded.value


@cache
def sources() -> str:
    """A digest of the code that runs: equal on two machines if they have the same files of ours."""
    return digest(_files(Path(__file__).parents[2]))


def _files(root: Path) -> list[Path]:
    """Our code below a folder."""
    files = [path for package in OURS for path in sorted((root / package).rglob("*"))]
    return [path for path in files if path.suffix in (".py", ".json")]


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
        content.update(file.name.encode() + b"\0" + (file.read_bytes() if file.is_file() else b""))
    return content.hexdigest()


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
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _git(root: Path, *arguments: str) -> str:
    """What git says of the repository that `root` lies in; empty where it says nothing."""
    # Git keeps away from another user's checkout, whose settings may name programs; but its Python files run already.
    command = ["git", "-c", "safe.directory=*", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # of a git hook
    try:
        run = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""
