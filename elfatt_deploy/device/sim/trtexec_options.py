"""Options of the emulated trtexec: which its version knows, and what they ask for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from elfatt_deploy import recipes

#: options that act here; the version must know them, too. The rest is refused, not passed over
_EMULATED = frozenset((
    "--onnx", "--saveEngine", "--loadEngine", "--help", "-h", "--verbose", "--fp16", "--noTF32",
    "--stronglyTyped", "--workspace", "--memPoolSize", "--buildOnly", "--skipInference",
    "--explicitBatch", "--minShapes", "--optShapes", "--maxShapes", "--shapes",
    "--timingCacheFile", "--profilingVerbosity", "--exportLayerInfo", "--precisionConstraints",
    "--layerPrecisions", "--layerOutputTypes", "--loadInputs", "--exportOutput", "--exportTimes",
    "--warmUp", "--duration", "--iterations", "--avgRuns", "--useCudaGraph", "--useSpinWait",
    "--noDataTransfers", "--includeDataTransfers", "--noCudaGraph", "--noSpinWait", "--percentile",
    "--separateProfileRun", "--exportProfile", "--exposeDMA", "--device", "--avgTiming",
    "--minTiming", "--streams", "--infStreams", "--builderOptimizationLevel", "--tempdir",
    "--plugins", "--staticPlugins", "--dynamicPlugins",
))  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """An option that is refused: key and value, and whether a real trtexec would know it."""

    key: str
    value: str
    real: bool


class Options:
    """A command line, split as trtexec does: at the first `=`.

    Args:
        arguments: without the program's name.
        version: of TensorRT.
    """

    def __init__(self, arguments: Sequence[str], version: tuple[int, ...]) -> None:
        """Split it."""
        self.version = version
        self._given = [argument.partition("=")[::2] for argument in arguments]

    def has(self, *keys: str) -> bool:
        """Return whether one of these options was given."""
        return any(key in keys for key, _ in self._given)

    def text(self, key: str) -> str:
        """Return the last value of an option; empty without one."""
        return next((value for k, value in reversed(self._given) if k == key), "")

    def texts(self, *keys: str) -> tuple[str, ...]:
        """Return the values of options that may be given several times, in their order."""
        return tuple(value for key, value in self._given if key in keys)

    def number(self, key: str, default: float) -> float:
        """Return the value of an option as a number.

        Raises:
            ValueError: it is none.
        """
        text = self.text(key)
        return float(text) if text else default

    def pairs(self, key: str) -> dict[str, str]:
        """Return `name:value,...`: each part is cut at its last colon, quotes are taken off."""
        parts = (part.rpartition(":") for part in self.text(key).split(",") if part)
        return {name.strip("'"): value for name, _, value in parts}

    def shapes(self, key: str) -> dict[str, tuple[int, ...]]:
        """Return `name:1x3x224x224,...`.

        Raises:
            ValueError: a side is not a number.
        """
        return {
            name: tuple(int(side) for side in text.split("x"))
            for name, text in self.pairs(key).items()
        }

    def percentiles(self) -> tuple[float, ...]:
        """Return which percentiles are shown; their default changed with 8.5."""
        default = "99" if self.version < (8, 5) else "90,95,99"
        return tuple(float(part) for part in (self.text("--percentile") or default).split(","))

    def unknown(self) -> tuple[Unknown, ...]:
        """Return the options that this version does not know, or that are not emulated."""
        known = known_options(self.version)
        return tuple(
            Unknown(key=key, value=value, real=key in known)
            for key, value in self._given
            if key not in known or key not in _EMULATED
        )


def known_options(version: tuple[int, ...]) -> frozenset[str]:
    """Return the options of a TensorRT version, from the nearest column of `flags.tsv`.

    The column of the same minor version; else that of the newest version that is older.

    Raises:
        InputFileError: the installation lacks the table.
    """
    path = recipes.profiles_folder() / "sim" / "flags.tsv"
    rows = [
        line.split("\t")
        for line in path.read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    columns = {tuple(int(n) for n in name.split(".")): i for i, name in enumerate(rows[0]) if i}
    same = [column for column in columns if column[:2] == version[:2]]
    older = [column for column in columns if column <= version]
    index = columns[max(same or older)]
    return frozenset(row[0] for row in rows[1:] if row[index] == "1")
