"""Where everything shown goes: results to stdout, all else to stderr."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec, Protocol

import typer

from elfatt_deploy.errors import ElfattDeployError, ExportError

#: shows the stage that is under way
Stage = Callable[[str], None]

_P = ParamSpec("_P")
_WHOLE = 24  # longest text in a table that is never wrapped
_UNLIMITED = 200


def guarded(verb: Callable[_P, int]) -> Callable[_P, None]:
    """Turn the exit code a verb returns, or the error it raises, into the end of the program."""

    @functools.wraps(verb)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            code = verb(*args, **kwargs)
        except ElfattDeployError as error:
            say(f"error: {error}")
            code = error.exit_code
        except KeyboardInterrupt:
            say("interrupted")
            code = 130
        except BrokenPipeError:  # the reader of stdout left: nothing more to say to it
            sys.stderr.close()
            code = 0
        except typer.Exit:
            raise
        except Exception as error:
            with tempfile.NamedTemporaryFile(
                "w", prefix="elfatt-deploy-", suffix=".txt", delete=False, encoding="utf-8"
            ) as file:
                traceback.print_exc(file=file)
            say(f"error: {type(error).__name__}: {error}\n  this is a bug; traceback: {file.name}")
            code = 70
        raise typer.Exit(code)

    return run


class Measured(Protocol):
    """What a report of measurements has in common with others."""

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it."""

    @property
    def parity_failed(self) -> bool:
        """Whether something gave wrong logits."""

    @property
    def failures(self) -> tuple[str, ...]:
        """Why cells have no numbers."""


def code_of(report: Measured) -> int:
    """Return the exit code of a report of measurements."""
    if report.interrupted:
        return 130
    if report.parity_failed:
        return 1
    return 5 if report.failures else 0


def say(text: str) -> None:
    """Write a line to stderr."""
    print(text, file=sys.stderr)


def show(text: str) -> None:
    """Write a line of the result to stdout.

    Raises:
        ExportError: stdout cannot be written, say because its disk is full.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        with contextlib.suppress(OSError):
            sys.stdout.close()  # or the interpreter fails once more on what is left in its buffer
        raise ExportError(
            f"cannot write the result to stdout: {error.strerror}",
            hint="make room, or send it elsewhere",
        ) from error


def show_json(schema: str, document: dict[str, Any]) -> None:
    """Write one JSON document to stdout, its schema and version first."""
    show(json.dumps({"schema": f"elfatt-deploy/{schema}", "version": 1, **document}, indent=1))


def show_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], below: str = ""
) -> None:
    """Write a table to stdout: units stand in `columns`, how it was made in `below`."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Rendered first and written by `show`, whose errors are ours. Off a terminal the table is as
    # wide as it needs to be: a pipe has no width.
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else _UNLIMITED
    rendered = io.StringIO()
    console = Console(file=rendered, width=width, force_terminal=terminal)
    table = Table(
        title=Text(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for index, column in enumerate(columns):
        cells = [row[index] for row in rows]
        # Names and numbers stay whole; where a terminal is narrow, longer texts wrap.
        whole = max(map(len, (column, *cells))) <= _WHOLE
        numeric = bool(cells) and all(map(_numeric, cells))
        table.add_column(
            column, justify="right" if numeric else "left", no_wrap=whole, overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    natural = console.measure(table, options=console.options.update(width=_UNLIMITED))
    if natural.maximum > console.width:
        table.padding = (0, 0, 0, 0)
    console.print(table)
    if below:
        console.print(below, style="dim", markup=False, highlight=False)
    show(rendered.getvalue().rstrip("\n"))


def _numeric(text: str) -> bool:
    """Whether a cell is numbers, or says that there is none."""
    return set(text) <= set("0123456789.+-e/ ") or text in ("inf", "nan")


@contextmanager
def progress(quiet: bool) -> Iterator[Stage]:
    """Give a function that shows the stage under way; on stderr, and only on a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda stage: None
        return
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("starting") as status:
        yield lambda stage: status.update(f"{stage} ...")
