"""A lease: how one process holds a trial where there are no locks, by creating what is not there yet and nothing else.

The objects `lease.000001`, `lease.000002` ... are its generations. Whoever creates the next one holds the trial, and of
several who try the store lets one win. The holder creates the next from a thread, and before anything that it writes;
others may when the last is older than EXPIRY by the store's own clock. A holder that was away too long thus finds its
next number taken, or its last one gone, and writes nothing more.
"""

import json
import threading
import time
import uuid
from contextlib import suppress
from typing import Protocol

from ablate.errors import LostError, StoreError
from ablate.machine import process, watchdog

EXPIRY = 120.0  # seconds without a new generation after which others may take a trial over
POLL = 5.0  # seconds between looks at a lease that may expire soon


class Hold(Protocol):
    """A folder that this process alone may write."""

    def check(self) -> None:
        """Raise LostError when the folder is no longer held."""

    def write(self, name: str, content: bytes) -> None:
        """Write a document, as long as the folder is held."""


class Objects(Protocol):
    """What a lease needs of an object store."""

    name: str

    def read(self, name: str) -> bytes | None: ...
    def create(self, name: str, content: bytes) -> bool: ...
    def remove(self, name: str) -> None: ...
    def sizes(self, under: str) -> dict[str, int]: ...
    def age(self, name: str) -> float: ...


class Lease:
    """The hold of one process on one folder of an object store, renewed by a thread until it is released."""

    def __init__(self, objects: Objects, folder: str, *, owner: str = "") -> None:
        self.objects, self.folder, self.owner = objects, folder, owner
        self.number = 0
        self._token = uuid.uuid4().hex
        self._one_at_a_time, self._end = threading.Lock(), threading.Event()

    def acquire(self, *, wait: bool) -> bool:
        """Take the folder; False when another process holds it.

        A lease that nobody renews is waited for, at most EXPIRY seconds, if `wait`; one of the same owner, the driver
        whose worker died, is taken over at once.

        Raises:
            StoreError: the store cannot be reached, or overwrites what it should only create.
        """
        first = 0
        while not self._is_free(newest := self._newest()):
            if not wait or first not in (0, newest):  # renewed, or another's: its holder is alive
                return False
            first = newest
            watchdog.beat()  # to wait is not to hang
            time.sleep(POLL)
        if not self._advance(newest):
            return False
        if self.objects.create(self._name(self.number), b""):
            raise StoreError(f"{self.objects.name}: overwrites what it is asked to create; trials cannot be held there")
        threading.Thread(target=self._renew, name="lease", daemon=True).start()
        return True

    def check(self) -> None:
        """Renew the lease now.

        Raises:
            LostError: another process has taken the folder over.
            StoreError: the store cannot be reached.
        """
        with self._one_at_a_time:
            if not self._advance(self.number):
                raise LostError(f"{self.objects.name}/{self.folder}: another process has taken this trial over")

    def write(self, name: str, content: bytes) -> None:
        """Write one object, as long as the lease is held; what others write meanwhile is not overwritten blindly."""
        self.check()
        while not self.objects.create(name, content):
            self.check()
            self.objects.remove(name)

    def release(self) -> None:
        """Let go; never raises, for a lease that cannot be taken back expires."""
        self._end.set()
        with self._one_at_a_time, suppress(StoreError):
            self.objects.remove(self._name(self.number))

    def is_held(self) -> bool:
        """Whether some process holds the folder, this one or another."""
        newest = self._newest()
        return newest > 0 and self.objects.age(self._name(newest)) <= EXPIRY

    def whose(self) -> str:
        """Which process holds the folder, in words."""
        return process.in_words(str(self._holder(self._newest()).get("where", "")))

    def _is_free(self, newest: int) -> bool:
        if not newest or self.objects.age(self._name(newest)) > EXPIRY:
            return True
        return bool(self.owner) and self._holder(newest).get("owner") == self.owner

    def _advance(self, last: int) -> bool:
        """Create the generation after `last`; False when another process has it, or went on from there meanwhile."""
        mine = self._name(last + 1)
        said = {"owner": self.owner, "holder": self._token, "where": process.signed()}
        content = json.dumps(said).encode()
        # A create whose answer was lost is tried again by the client, and refused then: what is there is ours.
        if not self.objects.create(mine, content) and self._holder(last + 1).get("holder") != self._token:
            return False
        there = self._generations()
        if max(there, default=0) > last + 1 or (last and last not in there):
            self.objects.remove(mine)
            return False
        self.number = last + 1
        for old in there - {self.number}:
            self.objects.remove(self._name(old))
        return True

    def _renew(self) -> None:
        while not self._end.wait(EXPIRY / 3):
            with self._one_at_a_time, suppress(StoreError):  # out of reach: the next write will say so
                if self._end.is_set() or not self._advance(self.number):
                    return

    def _holder(self, number: int) -> dict[str, str]:
        with suppress(ValueError):
            document = json.loads(self.objects.read(self._name(number)) or b"{}")
            return document if isinstance(document, dict) else {}
        return {}

    def _newest(self) -> int:
        return max(self._generations(), default=0)

    def _generations(self) -> set[int]:
        names = (name.rpartition("/")[2].partition(".") for name in self.objects.sizes(self.folder))
        return {int(number) for start, _, number in names if start == "lease" and number.isdecimal()}

    def _name(self, number: int) -> str:
        return f"{self.folder}/lease.{number:06d}"
