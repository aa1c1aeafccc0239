"""Options that several verbs share, their parsing and their completion."""

from __future__ import annotations

from typing import Annotated

import typer

from elfatt_deploy.errors import UsageError


def complete_model(incomplete: str) -> list[str]:
    """Return the model names that begin as typed."""
    from elfatt_deploy.models import registry

    return [name for name in registry.models() if name.startswith(incomplete)]


def complete_target(incomplete: str) -> list[str]:
    """Return the target names that begin as typed."""
    from elfatt_deploy import recipes

    return [name for name in recipes.targets() if name.startswith(incomplete)]


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no warnings on stderr.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change the configuration: blocks=7-7-14-7, stripes=1-2-7-7, window=7, lepe=false, "
        "levels=1-2-3odd, global-ratio=0.5, agents=9-16-49-49, classes=1000. Repeatable.",
    ),
]
Resolution = Annotated[
    str | None,
    typer.Option(
        "--resolution", metavar="N|HxW", help="Input size in pixels; the model's own by default."
    ),
]


def parse_resolution(text: str | None) -> tuple[int | None, int | None]:
    """Turn `224` or `224x320` (rows x columns) into height and width.

    Raises:
        UsageError: it is neither.
    """
    if text is None:
        return None, None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise UsageError(
            f"--resolution {text} is not a size", hint="write 224, or rows x columns as in 224x320"
        )
    return int(parts[0]), int(parts[-1])


def parse_batch(text: str | None) -> int | str | None:
    """Turn `8` into a number; leave `dynamic`, and nothing, as they are.

    Raises:
        UsageError: it is neither.
    """
    if text is None or text == "dynamic":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--batch {text} is not a batch", hint="write a number from 1, or dynamic")
    return int(text)
