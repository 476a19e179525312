"""Tab completion: what fits the word at the cursor. Never an error, no torch, no network, no plug-in.

A shell asks by running `ablate` with _ABLATE_COMPLETE in the environment; docs/completion.md says how to turn it on.
"""

import os
import re
import sys
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class

if TYPE_CHECKING:
    from ablate.study import Outline

VARIABLE = "_ABLATE_COMPLETE"
BREAKS = set("=:")  # at which bash ends a word, within the words that ablate takes


def answer(group: click.Group) -> NoReturn:
    """Print what fits, or the script that makes a shell ask; end the process."""
    add_completion_class(Bash)
    if not os.environ[VARIABLE].endswith("_complete"):
        sys.exit(group.main(prog_name="ablate", complete_var=VARIABLE))
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere), suppress(Exception):
        group.main(prog_name="ablate", complete_var=VARIABLE)
    sys.exit(0)


class Bash(BashComplete):
    """click's, for a shell that hands over `fusions=wi` as three words and replaces the last of them, unquoted."""

    def get_completion_args(self) -> tuple[list[str], str]:
        args, last = super().get_completion_args()
        words: list[str] = []
        for word in [*args, last]:
            broken = words and word and (set(word) <= BREAKS or words[-1][-1] in BREAKS)
            if broken:
                words[-1] += word
            else:
                words.append(word)
        *args, incomplete = words
        value = incomplete.partition("=")[2] if incomplete.startswith("--") else incomplete
        tail = "" if set(last) <= BREAKS else last
        self.written = len(value) - len(tail) if incomplete != last else 0
        return args, incomplete

    def format_completion(self, item: CompletionItem[str]) -> str:
        if item.type != "plain":
            return super().format_completion(item)
        # Two backslashes: the script reads its answer with `read`, which takes one away.
        return "plain," + re.sub(r"([^\w=:.,/+-])", r"\\\\\1", item.value[self.written :])


def studies(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Files, or the shipped studies where no file begins so."""
    from ablate.study import shipped

    names = [name for name in shipped() if incomplete and name.startswith(incomplete)]
    if names and not list(Path().glob(f"{incomplete}*")):
        return [CompletionItem(name) for name in names]
    return [CompletionItem(incomplete, type="file")]


def scales(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The scales of the study on the line."""
    return [name for name in _outline(context).scales if name.startswith(incomplete)]


def arms(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """`factor=level` for all levels of the study on the line."""
    levels = _outline(context).levels
    choices = [f"{factor}={level}" for factor, labels in levels.items() for level in labels]
    return [choice for choice in choices if choice.startswith(incomplete)]


def ended(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The ids of trials that have a result."""
    return [folder.name for folder in _trials(context, incomplete) if (folder / "result.json").exists()]


def studies_and_begun(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The ids of trials that have begun and have no result; studies where none begins so."""
    return begun(context, parameter, incomplete) or studies(context, parameter, incomplete)


def begun(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The ids of trials that have begun and have no result."""
    folders = _trials(context, incomplete)
    return [CompletionItem(folder.name) for folder in folders if not (folder / "result.json").exists()]


def models_and_studies(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """The models on the shelf; studies where none begins so."""
    from ablate import registry

    names = [CompletionItem(name) for name in registry.names("model") if name.startswith(incomplete)]
    return names or studies(context, parameter, incomplete)


def parts_with_knobs(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """What `ablate list knobs` takes."""
    from ablate import registry

    kinds = ("model", "task", "dataset") if context.params.get("what") == "knobs" else ()
    return sorted(name for kind in kinds for name in registry.names(kind) if name.startswith(incomplete))


def tasks(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The tasks on the shelf."""
    from ablate import registry

    return [name for name in registry.names("task") if name.startswith(incomplete)]


def known_sets(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The data sets that `ablate data` lists."""
    from ablate.datasets import catalog

    return [name for name in catalog() if name.startswith(incomplete)]


def _outline(context: click.Context) -> "Outline":
    from ablate.study import outline

    # Where the line ends with a flag that waits for its value, click has left the arguments before it in `args`.
    study = context.params.get("study") or context.params.get("what") or context.args[0]
    return outline(study, context.params.get("scale"))


def _trials(context: click.Context, incomplete: str) -> list[Path]:
    """The folders of trials; none where the results lie on an object store, which takes too long to ask."""
    results = context.params.get("results") or os.environ.get("ABLATE_RESULTS") or "results"
    return sorted(Path(results, "trials").glob(f"{incomplete}*")) if re.fullmatch("[0-9a-f]*", incomplete) else []
