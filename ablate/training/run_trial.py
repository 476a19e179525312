"""One trial from start to end: build, fit, evaluate, price. Knows no Ray and no MLflow.

`run_trial` is a generator: it yields every epoch as it ends, and the stored result last. Whoever drives it (a loop in
this process, a Ray actor) takes one step at a time. A failure is a result with its reason.

Several processes may train one trial (team_start.py, team_follower.py): all run the same code, and this one stores
what comes out.
"""

import errno
import hashlib
import re
import resource
import traceback
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from ablate.datasets import groups_of
from ablate.errors import AblateError, DamagedError, DataError, LostError, StoreError, TeamError, one_line
from ablate.machine import clock, origin
from ablate.network import cost
from ablate.network.build import build, initialise
from ablate.storage import PREDICTIONS, RESULT, WEIGHTS, Arrays, Epoch, Hold, Result, Store, notes, packed_rows, whose
from ablate.study import Trial
from ablate.tasks import build_task
from ablate.training import batches, team_start, weights
from ablate.training.evaluate import Unscored, evaluate
from ablate.training.fit import Diverged, Training, Unlabelled, fit
from ablate.training.site import Site
from ablate.training.team import Team

TRACEBACK = 30, 300  # lines of it that a result keeps, and characters of a line
OF_THE_MACHINE = (  # what an OSError says of no trial
    errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO,
    errno.ESTALE,
)  # fmt: skip
Assembly = Callable[[Trial, Site], AbstractContextManager[Team]]  # calls a trial's processes together


@dataclass(frozen=True)
class Held:
    """The place of a trial's documents, which the process has that leads; those that follow have none."""

    store: Store
    hold: Hold

    def save(self, trial: Trial) -> Callable[[bytes], None]:
        """What keeps a training state."""
        return lambda state: self.store.save(trial.id, state, hold=self.hold)


class Cancelled(Exception):
    """Somebody asked that this trial end; its state is saved, and a later run may go on from it."""


def run_trial(trial: Trial, site: Site, assembly: Assembly = team_start.here) -> Generator[Epoch | Result]:
    """Train and evaluate one trial, from its saved state if there is one; the last value is its stored result.

    Yields nothing but the stored result when the trial already has one, nothing at all when another process is at it,
    and nothing more when another process has taken it over. Closed between two epochs, it saves its state.

    Raises:
        DataError, StoreError, TeamError: the place is at fault, not the trial; no result is stored.
        Cancelled: see there.
        torch.OutOfMemoryError: of a trial that shares its device, and may fit alone; nothing is stored.
    """
    store = Store(site.results, site.kind)
    with store.lock(trial.id, owner=site.owner) as hold, suppress(LostError):
        if not hold:
            return
        done = _finished(store, trial)
        if done:
            yield done
            return
        start, curve, by_machine = clock.now(), [], False
        _refuse_cancelled(store, trial)
        try:
            held = Held(store, hold)
            with (
                assembly(trial, site) as team,
                batches.served(),
                batches.keeping_pictures(),
                closing(_train_and_evaluate(trial, site, team, held)) as events,
            ):
                for event in events:
                    if isinstance(event, Epoch):
                        curve.append(event)
                        yield event
                        _refuse_cancelled(store, trial)
                    else:
                        result, statistics = event
        except (DataError, StoreError, TeamError) as error:
            raise _one_line(error) from None
        except Cancelled:
            raise
        except Exception as error:  # whatever a part does, the other trials go on
            if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
                raise StoreError(f"trial {trial.id}: {error}; run again to continue from its last state") from None
            if _is_out_of_memory(error) and site.gpu_share < 1:
                raise torch.OutOfMemoryError(str(error)) from None
            by_machine = _is_of_the_machine(error)
            if is_of_the_code(error):
                with suppress(OSError):  # nobody may read it; the result has its end
                    traceback.print_exception(error)
            result, statistics = _failed(trial, error, site, curve, clock.now() - start), {}
        store.put(result, statistics, hold=hold, keep=by_machine)
        yield result


def follow(trial: Trial, site: Site, team: Team) -> None:
    """The same trial in a further process of its team, which stores nothing.

    Raises:
        Exception: what went wrong in this process.
    """
    with batches.served(), batches.keeping_pictures():
        for _ in _train_and_evaluate(trial, site, team, None):
            pass


def _one_line(error: AblateError) -> AblateError:
    """The error itself; from a loader process, torch wraps it in a traceback that ends with its name and text."""
    return type(error)(str(error).rpartition(f"{type(error).__module__}.{type(error).__qualname__}: ")[2].strip())


def _refuse_cancelled(store: Store, trial: Trial) -> None:
    with suppress(StoreError):  # a wish that cannot be read now is read after the next epoch
        if notes.there(store, trial.id, notes.CANCEL):
            raise Cancelled(trial.id)


def is_of_the_code(error: BaseException) -> bool:
    """Whether it came from what parts compute, so that its traceback tells where: no mistake, no lack of memory."""
    return not isinstance(error, Diverged | Unlabelled | Unscored | AblateError) and not _is_of_the_machine(error)


def _is_of_the_machine(error: BaseException) -> bool:
    return _is_out_of_memory(error) or isinstance(error, torch.AcceleratorError | MemoryError)


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether a device had no room: torch says so by a type, the libraries below it by texts."""
    texts = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    )


def _finished(store: Store, trial: Trial) -> Result | None:
    try:
        return store.get(trial.id)
    except DamagedError:
        store.set_aside(trial.id, RESULT)
        return None


def _resume(training: Training, trial: Trial, team: Team, held: Held | None) -> dict[str, str]:
    """Go on from the newest state that is whole; which documents of the trial were not, in this sitting or before."""
    if not held:
        state = team.broadcast(b"")
        if state and not training.resume(state):
            raise TeamError("a further process could not take up the state that process 0 has")
        return {}
    store, whole = held.store, b""
    for name, state in store.states(trial.id):
        if training.resume(state):
            whole = state
            break
        store.set_aside(trial.id, name)
    team.broadcast(whole)
    damaged = store.was_damaged(trial.id)
    kinds = {
        "damaged results": [name for name in damaged if name == RESULT],
        "damaged states": [name for name in damaged if name != RESULT],
    }
    return {kind: ", ".join(names) for kind, names in kinds.items() if names}


def _train_and_evaluate(
    trial: Trial, site: Site, team: Team, held: Held | None
) -> Generator[Epoch | tuple[Result, Arrays]]:
    recipe, device = trial.recipe, _settle(site)
    task, (splits, digests) = build_task(recipe.task), batches.opened(recipe, site.data, seed=trial.seed)
    info = splits["train"].info
    net = build(recipe)
    drawn = recipe.train.init_seed
    initialise(net, recipe.train.init, seed=trial.seed if drawn is None else drawn)
    facts = {"starting weights": weights.start(net.backbone, recipe.weights, site)} if recipe.weights else {}
    facts |= {"processes": str(site.budget.team)} | ({"share of the GPU": f"{site.gpu_share:.3g}"} if site.gpu else {})
    training = Training(trial, net, device, team)
    facts |= _resume(training, trial, team, held)
    yield from training.curve

    def score() -> dict[str, float]:
        found = evaluate(training, trial, task, info, splits["val"], site)
        return found.scores if found else {}

    save = held.save(trial) if held else None
    samples = batches.trained_on(recipe, task, splits["train"])
    yield from fit(training, trial, task, info, samples, site, save=save, score=score)
    final = evaluate(training, trial, task, info, splits["val"], site, folder=site.predictions)
    if final is None or held is None:
        return
    peak = _peak_memory(device)
    price = cost.price(recipe).model_copy(update={"images_per_second": final.images_per_second, "peak_memory": peak})
    seconds = sum(row.seconds for row in training.curve) + final.seconds
    scores, curve = _declared(final.scores, training.curve, over=recipe.train.score_over)
    found = {"scores": scores, "curve": curve, "cost": price, "data_digest": digests}
    if site.budget.keep_weights:
        content = weights.packed(training.evaluated, trial_id=trial.id, recipe=recipe)
        held.hold.write(held.store.name(trial.id, WEIGHTS), content)
        found["kept_weights"] = hashlib.sha256(content).hexdigest()
    if site.budget.keep_predictions:
        held.hold.write(held.store.name(trial.id, PREDICTIONS), packed_rows(final.predictions, compressed=True))
    if final.left_out:
        facts["samples on images outside the split, not evaluated"] = str(final.left_out)
    groups = groups_of(splits["val"])
    arrays = {"images/groups": np.array(groups, dtype=str)} if groups else {}
    yield _result(trial, "done", seconds, facts=facts, **found), final.statistics | arrays


def _declared(final: dict[str, float], curve: list[Epoch], *, over: int) -> tuple[dict[str, float], list[Epoch]]:
    """The scores that a trial declares, and its curve: of several last epochs their mean, and the last one's own scores
    in the curve, for per-image statistics are the last one's."""
    if over == 1:
        return final, curve
    curve = [*curve[:-1], curve[-1].model_copy(update={"scores": final})]
    rows = [row.scores for row in curve[-over:]]
    return {name: sum(row[name] for row in rows) / over for name in final}, curve


def _settle(site: Site) -> torch.device:
    """Threads, device and determinism of this process, which may have run another trial before."""
    torch.set_num_threads(site.budget.threads)
    _reset_peak_memory()
    if not site.gpu:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise DataError("budget.gpus: this process sees no CUDA device")
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:  # what a kernel of an earlier trial did stays with this process
        if _is_out_of_memory(error):
            raise
        raise TeamError(f"this process's CUDA context is broken ({str(error).splitlines()[0]}); run again") from None
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(site.gpu_share)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False  # fp32 is to mean float32: cuDNN would keep 10 bits of each factor
    torch.cuda.reset_peak_memory_stats()
    return torch.device("cuda")


def _failed(trial: Trial, error: Exception, site: Site, curve: list[Epoch], seconds: float) -> Result:
    said = isinstance(error, Diverged | Unlabelled | Unscored)
    reason = str(error) if said else f"{type(error).__name__}: {error}"
    status = "diverged" if isinstance(error, Diverged) else "failed"
    text = one_line(reason, 500).encode("utf-8", "replace").decode()  # a file's name may be no UTF-8
    left = _last_lines(error) if is_of_the_code(error) else ""
    facts = {"processes": str(site.budget.team)}
    return _result(trial, status, seconds, facts=facts, reason=text, traceback=left, curve=curve)


def _last_lines(error: BaseException) -> str:
    """The end of an exception's traceback, its files without the folders that are this machine's."""
    lines = "".join(traceback.format_exception(error)).encode("utf-8", "replace").decode().splitlines()
    short = [re.sub(r'File "[^"]*?((?:[^"/]+/)?[^"/]+)"', r'File "\1"', line) for line in lines]
    most, longest = TRACEBACK
    return "\n".join(line[:longest] for line in short[-most:])


def _result(trial: Trial, status: str, seconds: float, *, facts: Mapping[str, str] = {}, **fields: object) -> Result:
    process = {"threads": str(torch.get_num_threads()), "device": _device_name()}
    document = {
        "status": status,
        "env": {**origin.provenance(), **process, **facts},
        "seconds": seconds,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return Result.model_validate(whose(trial) | document | fields)


def _device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_initialized() else "cpu"


def _peak_memory(device: torch.device) -> int:
    """Bytes at the peak since `_settle`: of the device, or of this process where Linux tells."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated())
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _reset_peak_memory() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: start the high-water mark anew
