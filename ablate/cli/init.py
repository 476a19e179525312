"""ablate init: a file to begin with."""

import re
import shlex
from pathlib import Path

import click

from ablate import registry
from ablate.cli import options
from ablate.cli.tables import document
from ablate.cli.talk import say, tell
from ablate.errors import AblateError

TEMPLATES = Path(__file__).with_name("templates")
FILES = {"study": (".yaml",), "model": (".py", ".yaml"), "dataset": (".py", ".yaml")}  # the first is FILE


@click.command("init", context_settings={"allow_extra_args": True})
@click.argument("what", type=click.Choice(list(FILES)))
@click.option(
    "--to", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="The file to write.  [default: my_study.yaml, my_model.py or my_dataset.py]",
)  # fmt: skip
@options.as_json
@click.pass_context
def command(context: click.Context, what: str, to: Path | None, as_json: bool) -> None:
    """Write a commented file that runs as it is.

    study: a study's YAML file. model, dataset: a plug-in (a Python file) with a study beside it. The name of what is
    written is its file's, which --to gives. Nothing is overwritten. Example: ablate init model --to my_network.py
    """
    if context.args:
        stem = re.sub("[^a-z0-9_]+", "_", Path(context.args[0]).stem.lower()).strip("_") or f"my_{what}"
        named = f"{stem}{FILES[what][0]}"
        raise AblateError(
            f"init {what} {context.args[0]}: a file is named by --to: ablate init {what} --to {shlex.quote(named)}"
        )
    target = to or Path(f"my_{what}{FILES[what][0]}")
    _refuse_name(what, target)
    texts = {
        target.with_suffix(suffix): (TEMPLATES / f"{what}{suffix}").read_text(encoding="utf-8")
        for suffix in FILES[what]
    }
    for path in texts:
        if path.exists():
            raise AblateError(f"{path}: is there already")
    for path, text in texts.items():
        _write(path, _renamed(text, what, target.stem))
    if as_json:
        document({"files": list(texts)})
    else:
        tell(*texts)
    say(f"try it: ablate run {shlex.quote(str(target.with_suffix('.yaml')))} --local")


def _refuse_name(what: str, target: Path) -> None:
    """A study is called as its file, a part as its module, which a study imports."""
    suffix = FILES[what][0]
    if target.suffix != suffix:
        raise AblateError(f"--to {target}: a {what} is written to a file that ends in {suffix}")
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", target.stem):
        raise AblateError(f"--to {target}: the file's name is the {what}'s: small letters, digits and _")
    if what != "study" and target.stem in registry.names(what):
        raise AblateError(f"--to {target}: there is a {what} {target.stem!r} already; choose another name")


def _renamed(text: str, what: str, name: str) -> str:
    """The template with its own name replaced, also where a class is called so."""
    camel = "".join(word.capitalize() for word in name.split("_"))
    return text.replace(f"my_{what}", name).replace(f"My{what.capitalize()}", camel)


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise AblateError(f"{path}: {error.strerror}") from None
