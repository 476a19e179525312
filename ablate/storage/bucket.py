"""A prefix of an object store as a place for results: s3://bucket/prefix, gs://, memory:// and what else fsspec knows.

Single objects are written whole by the store itself. Trials are held by leases (lease.py).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ablate.errors import StoreError, nearest, without_credentials
from ablate.storage.lease import Hold, Lease

AT_ONCE = 256  # objects that are asked for together
# S3's words for an object that is there, or is just being created, or was by a request whose answer was lost. s3fs
# knows the first only where the store names the condition too, which not all do.
IS_THERE = ("PreconditionFailed", "412", "ConditionalRequestConflict", "NoSuchUpload")


class Bucket:
    """A prefix of an object store that fsspec knows: s3://bucket/prefix, gs://, memory:// and others."""

    def __init__(self, url: str) -> None:
        self.name = self.address = url.rstrip("/")
        self._fs, self._root = _filesystem(self.name)

    def read(self, name: str, *, first: int | None = None) -> bytes | None:
        with self._in_words(name), suppress(FileNotFoundError):
            return bytes(self._fs.cat_file(self._path(name), end=first))
        return None

    def read_many(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | StoreError | None]]:
        rest = list(names)
        while rest:
            now, rest = rest[:AT_ONCE], rest[AT_ONCE:]
            with self._in_words(now[0]):
                found = self._fs.cat([self._path(name) for name in now], on_error="return")
            for name in now:
                content = found[self._path(name)]
                if isinstance(content, FileNotFoundError):
                    content = None
                elif isinstance(content, BaseException):
                    with self._in_words(name):
                        raise content
                yield name, content

    def write(self, name: str, content: bytes) -> None:
        with self._in_words(name):
            self._fs.pipe_file(self._path(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """Write a document if there is none of that name; False, and nothing is written, when there is."""
        with self._in_words(name):
            try:
                self._fs.pipe_file(self._path(name), content, mode="create")
            except FileExistsError:
                return False
            except OSError as error:
                if _code(error) in IS_THERE:
                    return False
                raise
            return True

    def move(self, name: str, to: str) -> None:
        with self._in_words(name), suppress(FileNotFoundError):
            self._fs.cp_file(self._path(name), self._path(to))
        self.remove(name)

    def remove(self, name: str) -> None:
        with self._in_words(name), suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    def children(self, under: str) -> list[str]:
        return sorted({name.removeprefix(f"{under}/").partition("/")[0] for name in self.sizes(under)})

    def sizes(self, under: str) -> dict[str, int]:
        with self._in_words(under):
            found = self._fs.find(self._path(under), detail=True)
        return {path.removeprefix(self._path("")): int(about["size"]) for path, about in found.items()}

    def age(self, name: str) -> float:
        with self._in_words(name), suppress(FileNotFoundError):
            self._fs.pipe_file(self._path("clock"), b"")
            return float((self._fs.modified(self._path("clock")) - self._fs.modified(self._path(name))).total_seconds())
        return 0.0

    @contextmanager
    def hold(self, folder: str, *, owner: str = "", wait: bool = True) -> Iterator[Hold | None]:
        lease = Lease(self, folder, owner=owner)
        if not lease.acquire(wait=wait):
            yield None
            return
        try:
            yield lease
        finally:
            lease.release()

    def is_held(self, folder: str) -> bool:
        return Lease(self, folder).is_held()

    def holder(self, folder: str) -> str:
        return Lease(self, folder).whose()

    def free(self) -> int | None:
        return None

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _in_words(self, name: str) -> Iterator[None]:
        """Whatever the store's library raises, as one line."""
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            raise StoreError(f"{self.name}/{name}: {_said(error)}") from None


def _code(error: OSError) -> str:
    """The store's own code of what it refused; empty where it has none."""
    response = getattr(error.__cause__, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _filesystem(url: str) -> tuple[Any, str]:
    import fsspec

    scheme, _, rest = url.partition("://")
    if scheme not in fsspec.available_protocols():
        raise StoreError(f"{url}: no kind of place {scheme!r}; {nearest(scheme, ('s3', 'gs', 'az', 'memory', 'file'))}")
    if without_credentials(url) != url or ".." in rest.split("/"):
        raise StoreError(
            f"{scheme}://...: a URL of results holds neither credentials (set them in the environment) nor .., @ or ?"
        )
    try:
        return fsspec.url_to_fs(url, use_listings_cache=False)  # type: ignore[no-any-return]  # untyped
    except ImportError as error:
        extra = "pip install s3fs" if scheme in ("s3", "s3a") else str(error)
        raise StoreError(f"{url}: the package for {scheme}:// is missing: {extra}") from None
    except Exception as error:  # what the package wants is its own: a project, an account
        raise StoreError(f"{url}: {_said(error)}") from None


def _said(error: BaseException) -> str:
    return f"{str(error)[:300] or 'no answer'} ({type(error).__name__})"
