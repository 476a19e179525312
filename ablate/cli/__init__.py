"""The command line, a thin skin: a command's file is imported when the command is used.

Data goes to stdout, talk to stderr. A user's mistake is one line and exit status 2; a bug keeps its
traceback.
"""

import errno
import importlib
import os
import sys
from contextlib import suppress
from typing import Any

import click

from ablate.cli.help import Context
from ablate.cli.talk import close_down, open_streams, say
from ablate.errors import AblateError

COMMANDS = {
    "init": "Write a commented study, model or data set to start from",
    "plan": "Print trials, cost, time and power of a study",
    "run": "Train missing trials and write the report",
    "trial": "Train one trial in this process",
    "evaluate": "Score a checkpoint, an ONNX network or predictions",
    "compare": "Compare networks on one data set, paired by image",
    "predict": "Run a network on images: drawings and predictions",
    "paper": "Score released checkpoints beside their published scores",
    "status": "List trials: done, failed, missing",
    "cancel": "Stop trials that another process trains",
    "report": "Write the report from stored results",
    "foretell": "Check whether small scales predict large ones",
    "cost": "Count parameters, multiply-adds and memory",
    "list": "List parts, knobs and keys of a study file",
    "show": "Print one result as JSON",
    "reproduce": "Train a stored trial again and compare",
    "import": "Import published results",
    "export": "Write a network to a file: weights, ONNX, .pt2",
    "data": "List, check or make data sets",
    "track": "Write missing results to MLflow",
    "gc": "Delete files that no trial needs",
}


class Commands(click.Group):
    """Finds a command in the file of its name."""

    context_class = Context

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"ablate.cli.{cmd_name.replace('import', 'import_').replace('list', 'list_')}")
        command: click.Command = module.command
        for inner in (command, *getattr(command, "commands", {}).values()):
            inner.context_class = Context
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        fitting = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        return fitting or click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        from ablate.errors import nearest

        if args[0] not in COMMANDS and not ctx.resilient_parsing:
            ctx.fail(f"no command {args[0]!r}; {nearest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="ablate-backbones", prog_name="ablate")
def group() -> None:
    """Ablation studies for vision backbones that people can trust.

    A study asks one question. It has a control and factors with levels; each choice of levels is an
    arm, each arm with one seed a trial. A STUDY is a file, or the name of a study that comes with
    ablate.

    Tab completion in bash: eval "$(_ABLATE_COMPLETE=bash_source ablate)". In zsh and fish: zsh_source, fish_source;
    docs/completion.md says more. Example: ablate run studies/fusion_count.yaml
    """


def main() -> None:
    """The `ablate` command."""
    if "_ABLATE_COMPLETE" in os.environ:
        from ablate.cli.completion import answer

        answer(group)
    open_streams()
    try:
        group(standalone_mode=False)
    except AblateError as error:
        say(f"ablate: {error}", *(f"  {note}" for note in getattr(error, "__notes__", ())))
        sys.exit(2)
    except click.exceptions.NoArgsIsHelpError as error:
        with suppress(OSError):
            click.echo(error.format_message(), err=True)  # our own help, in colours
        sys.exit(2)
    except click.ClickException as error:
        say(f"ablate: {error.format_message()}")
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        say("ablate: stopped; the same command continues from here")
        sys.exit(130)
    except BrokenPipeError:
        close_down(1)
        close_down(2)
        sys.exit(141)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        say(f"ablate: {error.filename or 'what this command says'}: no room left on the disk")
        sys.exit(2)
