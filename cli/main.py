"""The command `mutant`: parses the command line, calls a command, turns what goes wrong into words and exit codes.

Commands import what is heavy inside themselves, so `mutant --help` answers at once.
"""

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from mutant.cli import (
    ancestry,
    answering,
    benching,
    catalogues,
    comparing,
    giving,
    growing,
    keeping,
    listing,
    quickstart,
    replaying,
    reporting,
    serving,
    system,
)
from mutant.cli.display import complain, say, tell
from mutant.cli.stopping import Stopped
from mutant.tasks.errors import UserError, printable

TRACEBACK = "MUTANT_TRACEBACK"
BAD_INPUT = 2
INTERNAL_ERROR = 70
INTERRUPTED, TERMINATED = 130, 143
EXIT_CODES = (
    "Exit codes: 0 done · 1 a check failed, or a task could not be trained · 2 bad input or surroundings · "
    "70 an error in mutant itself · 130 stopped by Ctrl-C · 143 stopped by SIGTERM."
)

app = typer.Typer(
    name="mutant",
    help="A multitask image model that grows one task at a time from a pretrained root, without forgetting.\n\n"
    "Start: mutant quickstart, or mutant init --root NAME and mutant add folder:PATH.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from mutant import __version__

        say(f"mutant {__version__}")
        raise typer.Exit


@app.callback()
def globals_(
    context: typer.Context,
    db: Annotated[
        str | None,
        typer.Option("--db", metavar="URL", help="The system's database (default: MUTANT_DB, else mutant.db)."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    context.obj = db


for group in (
    quickstart,
    system,
    catalogues,
    growing,
    comparing,
    benching,
    listing,
    ancestry,
    reporting,
    serving,
    answering,
    replaying,
    giving,
    keeping,
):
    group.register(app)


def run(arguments: Sequence[str]) -> int:
    """Call the command that `arguments` name; its exit code."""
    try:
        code = typer.main.get_command(app).main(list(arguments), prog_name="mutant", standalone_mode=False)
    except Stopped as stopped:
        tell(stopped.told)
        return stopped.exit_code
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        return _explain(error)
    if code == INTERRUPTED:
        tell("Stopped.")
    return code if isinstance(code, int) else 0


def _explain(error: Exception) -> int:
    """Say what went wrong; the exit code."""
    match error:
        case UserError():
            complain(error)
            return BAD_INPUT
        case typer.TyperException():
            context, message = getattr(error, "ctx", None), error.format_message()
            if message:  # without one, the help was shown instead
                command = context.command_path if context is not None else "mutant"
                complain(UserError(message, hint=f"See: {command} --help"))
            return BAD_INPUT
        case OSError() if error.strerror:
            place = f": '{printable(str(error.filename))}'" if error.filename else ""
            complain(UserError(f"{error.strerror}{place}."))
            return BAD_INPUT
        case _:
            text = printable(" ".join(str(error).split()))
            tell(f"Internal error: {type(error).__name__}: {text}", style="bold red")
            tell(f"See its traceback with {TRACEBACK}=1 before the command.")
            return INTERNAL_ERROR


def main() -> None:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    code = run(sys.argv[1:])
    if code in (INTERRUPTED, TERMINATED):
        # XLA may have been stopped anywhere, and then crashes when Python takes it apart; everything is closed by now.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
