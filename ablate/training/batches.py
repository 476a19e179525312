"""Samples in batches, as the network takes them.

Pairing: the order of samples depends on (seed, epoch), an image's augmentation on (seed, epoch, image), both
independent of arm, of the number of data workers, and of how many processes share a batch.
"""

import hashlib
import os
import signal
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import connection
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from ablate.datasets import SPLITS, Folded, Info, Samples, Split, build_dataset, held_out, keep_pictures, pictures_kept
from ablate.errors import DataError, LoadingError, PartError, StoreError, one_line
from ablate.machine import memory, scratch
from ablate.study import Recipe
from ablate.tasks import Batch, Items, OfImages, SomeTask, build_protocol, build_task
from ablate.training.site import Site
from ablate.training.team import ALONE, Shares, Team

NO_ROOM = ("unable to allocate shared memory", "unable to open shared memory", "Too many open files")  # torch's words
Index = int | tuple[int, int]  # of a sample, in training with the epoch before it
Loader = DataLoader[dict[str, object]]  # gives batches; torch calls it after the samples that it loads
LONGEST_PLACE = 75  # bytes: a socket's 107 less /pymp-12345678/listener-12345678
AHEAD = 2  # steps that a GPU has before it while it computes one
LINGER = 40  # seconds that a loading process lives on after SIGTERM: twice what a stopped run waits for its epochs

MEMORY = Path("/dev/shm")  # where decoded pictures are kept
LEAST_FREE = 0.5  # of that file system, and of the memory that this process may use: else no more are kept
LEAST_BYTES = 2**30  # free there: batches pass through it, and containers have small ones
SIGNAL_FOLLOWS = 1.0  # seconds within which the signal of a process's end comes after its pipes are closed


def opened(recipe: Recipe, root: Path | None, *, seed: int) -> tuple[dict[Split, Samples], dict[Split, str]]:
    """Both splits of a recipe's data for that seed, and their digests; each has something to train on or to evaluate.

    Of a recipe with `train.held_out` both are parts of the training images, or of as many as it names: the digests tell
    files apart, and are the same for any number of images.

    Raises:
        DataError: files are missing, damaged or not the declared ones, or nothing is left of a split.
        PartError: the samples do not say which images they are of, and the recipe names a number.
    """
    data, task = build_dataset(recipe.dataset), build_task(recipe.task)
    data = data.of_seed(seed) if isinstance(data, Folded) else data
    if share := recipe.train.held_out:  # then nothing sees the test images
        whole = data.open("train", root)
        splits: dict[Split, Samples] = dict(zip(SPLITS, held_out(whole, share), strict=True))
    else:
        splits = {split: data.open(split, root) for split in SPLITS}
    digests = {split: samples.verify() for split, samples in splits.items()}
    if share and recipe.train.images:
        among = _first_images(recipe, task.samples(whole), whole)
        splits = dict(zip(SPLITS, held_out(whole, share, among=among), strict=True))
    trained = trained_on(recipe, task, splits["train"])
    tested = task.samples_for_evaluation(splits["val"], build_protocol(recipe.task, recipe.evaluation))
    for split, items in zip(SPLITS, (trained, tested), strict=True):
        if not len(items):
            raise DataError(f"{splits[split].folder or data.info.name}: {split} has no sample for {recipe.task.name}")
    return splits, digests


def trained_on(recipe: Recipe, task: SomeTask, opened: Samples) -> Items[object]:
    """The samples to train on: all, or those of as many images as the recipe names.

    Images are taken in the order of a hash of their names, so that fewer are among more, whatever the seed. Where some
    are held out, the split has no others.

    Raises:
        DataError: there are fewer images with samples.
        PartError: the samples do not say which images they are of.
    """
    items = task.samples(opened)
    if recipe.train.images is None or recipe.train.held_out:
        return items
    first = _first_images(recipe, items, opened)
    return Some(items, [place for place, image in enumerate(_image_of(recipe, items)) if image in first])


def _first_images(recipe: Recipe, items: Items[object], opened: Samples) -> set[int]:
    """As many images with samples as the recipe names."""
    there, wanted = set(_image_of(recipe, items)), recipe.train.images or 0
    if wanted > len(there):
        raise DataError(f"{opened.folder or opened.info.name}: train.images: {wanted}; {len(there)} have samples")
    order = sorted(there, key=lambda image: hashlib.blake2b(opened.name(image).encode()).digest())
    return set(order[:wanted])


def _image_of(recipe: Recipe, items: Items[object]) -> list[int]:
    """The image of each sample."""
    if not isinstance(items, OfImages):
        raise PartError(f"train.images: the samples of {recipe.dataset.name} do not say which images they are of")
    return [int(image) for image in items.image_of]


class Some:
    """Some of the samples, in their order."""

    def __init__(self, items: Items[object], places: list[int]) -> None:
        self.items, self.places = items, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> object:
        return self.items[self.places[index]]


class Encoded(Dataset[dict[str, object]]):
    """Samples as the network takes them; `(epoch, index)` is augmented, `index` alone is not."""

    def __init__(self, samples: Items[object], task: SomeTask, info: Info, *, seed: int) -> None:
        self.samples, self.task, self.info, self.seed = samples, task, info, seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: Index) -> dict[str, object]:
        if isinstance(index, tuple):
            epoch, position = index
            rng = np.random.default_rng([self.seed, epoch, position])
            return dict(self.task.encode(self.samples[position], self.info, rng))
        return dict(self.task.encode(self.samples[index], self.info, None))


class Shuffled(Sampler[tuple[int, int]]):
    """All samples in an order drawn from (seed, epoch)."""

    def __init__(self, length: int, *, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 1

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        return iter([(self.epoch, int(index)) for index in order])


def batches(
    encoded: Encoded,
    batch: int,
    site: Site,
    task: SomeTask,
    *,
    sampler: Sampler[tuple[int, int]] | None = None,
    team: Team = ALONE,
) -> Loader:
    """A loader over encoded samples, in the sampler's order or in their own.

    Of several processes each gets its share of every batch of the sampler, or without one its share of the batches.
    """
    if site.budget.workers:
        _shorten_paths()
    # A batch of one image has no deviation to normalise by; officially the last batch is left out, if smaller.
    drop_last = sampler is not None and len(encoded) % batch == 1 and len(encoded) > 1
    everything: Iterable[Index] = sampler or range(len(encoded))
    whole = BatchSampler(everything, batch, drop_last)  # type: ignore[arg-type]  # for torch an index is a number
    own = whole if team.size == 1 else Shares(whole, team) if sampler else team.share(list(whole))
    return DataLoader(
        encoded,
        batch_sampler=own,
        num_workers=site.budget.workers,
        # As before Python 3.14, whose server for new processes has loaded no plugin and heeds signals at once.
        multiprocessing_context="fork" if site.budget.workers and sys.platform == "linux" else None,
        worker_init_fn=partial(_begin_loading, pictures=pictures_kept()),
        generator=torch.Generator(),  # of loading processes; the network's draws are not to depend on their number
        collate_fn=task.collate,
        persistent_workers=site.budget.workers > 0,
        pin_memory=site.gpu,
    )


@contextmanager
def keeping_pictures() -> Iterator[None]:
    """Share decoded pictures with the other trials of this user on this machine, and with loading processes.

    They lie in the machine's memory, and go with the last trial.
    """
    with scratch.shared(MEMORY, "pictures") as folder:
        keep_pictures(folder, _room)
        try:
            yield
        finally:
            keep_pictures(None, _room)


def _room(folder: Path) -> bool:
    with suppress(OSError):
        there = os.statvfs(folder)
        least = max(LEAST_FREE * there.f_blocks, LEAST_BYTES / there.f_frsize)
        return there.f_bavail > least and memory.free_share() > LEAST_FREE
    return False


def _shorten_paths() -> None:
    """Loading processes hand tensors over through sockets where temporary files go, and hang if their paths are too
    long."""
    place = scratch.for_sockets(LONGEST_PLACE)
    if place is None:
        raise StoreError(
            f"{scratch.default()}: too long a path for the sockets of processes that load data; set TMPDIR to a folder "
            f"of at most {LONGEST_PLACE} characters, or `workers: 0` in the budget"
        )
    tempfile.tempdir = str(place)


def _begin_loading(worker: int, *, pictures: Path | None) -> None:
    """Signals to a whole group or job go to loading processes too; the epoch that they serve is to end."""
    keep_pictures(pictures, _room)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: signal.alarm(LINGER))


@contextmanager
def served() -> Iterator[None]:
    """Turns what torch raises when a loading process was killed, or found no room, into a LoadingError.

    Its end is seen in two ways, in either order: a pipe to it is closed, and torch raises from a signal handler, also
    while the closed pipe is looked at here.
    """
    try:
        try:
            yield
        except (EOFError, ConnectionError) as error:
            *_, (frame, _) = traceback.walk_tb(error.__traceback__)
            if Path(frame.f_code.co_filename) != Path(connection.__file__):
                raise
            time.sleep(SIGNAL_FOLLOWS)
            raise LoadingError("a data-loading process died; run again to continue from its state") from None
    except RuntimeError as error:
        text = one_line(error, 10_000)
        if not (text.startswith("DataLoader worker") or any(sign in text for sign in NO_ROOM)):
            raise
        text = text if len(text) < 300 else f"... {text[-300:]}"
        raise LoadingError(
            f"a data-loading process died or hangs ({text}); run again to continue from its state"
        ) from None


def placed(loader: Loader, device: torch.device) -> Iterator[Batch]:
    """The loader's batches on the device.

    A GPU is given them beside what it computes, and up to `AHEAD` steps are launched while it is at an earlier one.
    That one is waited for here, so whoever gets a batch knows that the device goes on.
    """
    if device.type != "cuda":
        for batch in loader:
            yield to_device(batch, device)
        return
    copying, computing = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    launched: deque[torch.cuda.Event] = deque()
    for batch in loader:
        with torch.cuda.stream(copying):
            there = to_device(batch, device)
        computing.wait_stream(copying)
        for value in there.values():
            if isinstance(value, Tensor):
                value.record_stream(computing)  # its memory is not given away before the step has read it
        yield there
        launched.append(torch.cuda.Event(blocking=True))
        launched[-1].record(computing)
        if len(launched) > AHEAD:
            launched.popleft().synchronize()


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on the device."""
    return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}
