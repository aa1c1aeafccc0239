"""What `bench --attention` is asked for, from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from elfatt_deploy.bench.timing import StopRule
from elfatt_deploy.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from elfatt_deploy.bench.attention import AttentionRequest

ALL = "all"
#: what --set takes, and what it means
SETTINGS = {
    "heads": "one for each 32 channels",
    "block": "side of blockified attention's blocks, 7",
    "rounds": "least number of rounds, 10",
    "seconds": "least duration of the rounds together, 10",
    "plot": "draw time against tokens: FILE.png, .svg or .pdf",
}
_DEFAULT_RULE = StopRule()
#: rounds that `seconds` alone asks for: as many as an interval needs
_LEAST_ROUNDS = 5
_BLOCK = 7


def request(
    names: str, sizes: str, dim: int, settings: Sequence[str], threads: int | None, seed: int
) -> AttentionRequest:
    """Return the request.

    Args:
        names: of mechanisms, with commas between, or `all`.
        sizes: token maps, `14x14,28x56`.
        dim: channels.
        settings: `KEY=VALUE` texts.
        threads: of the runner; None for 1.
        seed: of weights, inputs and order.

    Raises:
        UsageError: one of them cannot be used.
        UnknownNameError: there is no such mechanism or setting.
    """
    from elfatt_deploy.bench.attention import AttentionRequest

    given = dict(map(_setting, settings))
    rounds = _whole("rounds", given["rounds"]) if "rounds" in given else None
    seconds = _number("seconds", given["seconds"]) if "seconds" in given else None
    return AttentionRequest(
        attentions=_attentions(names),
        sizes=_sizes(sizes),
        dim=dim,
        heads=_whole("heads", given["heads"]) if "heads" in given else None,
        block=_whole("block", given["block"]) if "block" in given else _BLOCK,
        threads=1 if threads is None else threads,
        rule=_rule(rounds, seconds),
        seed=seed,
        plot=Path(given["plot"]) if "plot" in given else None,
    )


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if key not in SETTINGS:
        raise UnknownNameError("setting of attention", key, SETTINGS)
    if not equals or not value:
        raise UsageError(f"--set {text} has no value", hint=f"write {key}=VALUE")
    return key, value


def _whole(key: str, text: str) -> int:
    if not text.removeprefix("-").isdecimal():
        raise UsageError(f"--set {key}={text} is no whole number", hint=f"{key}: {SETTINGS[key]}")
    return int(text)


def _number(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(
            f"--set {key}={text} is no number", hint=f"{key}: {SETTINGS[key]}"
        ) from error


def _attentions(text: str) -> tuple[str, ...]:
    """Turn `elfatt,global` into names, and `all` into those of every mechanism."""
    from elfatt_deploy.models import registry

    names = tuple(name.strip() for name in text.split(","))
    return tuple(registry.ATTENTIONS) if ALL in names else names


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
    """Turn `14x14,28x56` into rows and columns."""
    sizes = []
    for part in text.split(","):
        rows, _, cols = part.strip().lower().partition("x")
        if not (rows.isdecimal() and cols.isdecimal() and int(rows) and int(cols)):
            raise UsageError(
                f"--size {part.strip()} is not a size",
                hint="write rows x columns, as in 56x56, and a comma between two sizes",
            )
        sizes.append((int(rows), int(cols)))
    return tuple(sizes)


def _rule(rounds: int | None, seconds: float | None) -> StopRule:
    """Return the stop rule: what is given alone counts alone."""
    if rounds is None and seconds is None:
        return _DEFAULT_RULE
    return StopRule(rounds=_LEAST_ROUNDS if rounds is None else rounds, seconds=seconds or 0.0)
