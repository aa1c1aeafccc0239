"""What trtexec said: its console text as a record. Nothing here runs anything.

Seen on: Jetson Nano (TensorRT 8.2.1), Xavier and Orin Nano (8.5.2), Orin (10.3.0), a desktop
(10.13.0). Every line is `[MM/DD/YYYY-HH:MM:SS] [V|I|W|E|F] text`; lines of the library add `[TRT]`.
Information goes to stdout, warnings and errors to stderr: the text is both, as the lines came.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import Literal

from elfatt_deploy.engine import memory
from elfatt_deploy.engine.config import BuildDevice
from elfatt_deploy.engine.dialects import version_from_banner

_LINE = re.compile(r"(?:\[[\d/:-]+\] )?\[([VIWEF])\] (?:\[TRT\] ?)?(.*)")
_VERDICT = re.compile(r"^&&&& (PASSED|FAILED) TensorRT\.trtexec", re.MULTILINE)
_UNKNOWN_OPTION = re.compile(r"Unknown option: (\S+)")
#: lines without a prefix that the shell, the C++ library or the kernel's OOM killer leave
_BARE = re.compile(
    r"(Killed|Aborted|Segmentation fault|Bus error|Illegal instruction|terminate called after"
    r"|\s+what\(\):|.*error while loading shared libraries).*"
)
#: after one of these there is no good plan, whatever the verdict says
_FATAL = re.compile(
    r"deserializ\w* failed|Failed to read header|Engine could not be created"
    r"|Failed to create engine|Engine set up failed|Building engine failed|Parsing model failed"
    r"|Failed to parse|Saving engine|(?:opening|open|loading|reading) engine file"
    r"|Network And Config setup failed|Inference set up failed|Engine serialization failed",
    re.IGNORECASE,
)
_PARSING = re.compile(r'While parsing node number (\d+) \[(\S+?)(?: -> "(.*?)")?\]')
_NODE_NAME = re.compile(r'(?:.*: )?name: "(.*)"$')
_PARSER_ERROR = re.compile(r"ModelImporter\.cpp:\d+: ERROR: (.*)")
_DEVICE = {
    "name": re.compile(r"Selected Device: (.+)"),
    "sm": re.compile(r"Compute Capability: (\d+)\.(\d+)"),
    "memory": re.compile(r"Device Global Memory: (\d+) MiB"),
}
_VERSION = re.compile(r"TensorRT version: (\d+(?:\.\d+)+)")
_BUILT = re.compile(r"Engine built in ([\d.e+-]+) sec")
_THROUGHPUT = re.compile(r"Throughput: ([\d.e+-]+) qps")
_MEDIAN = re.compile(r"\] (GPU Compute Time|Latency): .*?median = ([\d.e+-]+) ms")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ParserError:
    """A node of the ONNX file that the parser refuses.

    Args:
        number: its place in the file.
        op: its op.
        node: its name; that of its first output where the log has no name.
        text: why.
    """

    number: int
    op: str
    node: str
    text: str

    def __str__(self) -> str:
        """Return it on one line."""
        return f"node {self.number}, {self.node}, op {self.op}: {self.text}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The performance summary of a run.

    Args:
        throughput_qps: queries in a second, each a batch.
        gpu_compute_median_ms: median of "GPU Compute Time".
        latency_median_ms: median of "Latency": copy in, GPU compute, copy out.
    """

    throughput_qps: float
    gpu_compute_median_ms: float
    latency_median_ms: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrtexecLog:
    """What a run of trtexec said.

    Args:
        version: TensorRT version, `10.3.0`; empty where the text names none.
        verdict: the closing line; `none` where there is none: killed, or the text is cut.
        device: the GPU; None where the text does not describe it.
        build_seconds: how long the build took; None where no engine was built.
        summary: numbers of the inference; None where there was none.
        warnings: each once, in order.
        errors: errors, and what the shell or the kernel said, each once, in order.
        fatal: the errors after which there is no plan to trust, even under PASSED.
        unknown_options: options that this version does not know.
        parser_errors: nodes that the parser refuses.
        out_of_memory: the first line that says that memory ran out. It is a warning, too, of builds
            that succeed.
        workspace_too_small: the first line that asks for more workspace.
    """

    version: str
    verdict: Literal["passed", "failed", "none"]
    device: BuildDevice | None = None
    build_seconds: float | None = None
    summary: Summary | None = None
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    fatal: tuple[str, ...] = ()
    unknown_options: tuple[str, ...] = ()
    parser_errors: tuple[ParserError, ...] = ()
    out_of_memory: str | None = None
    workspace_too_small: str | None = None


def parse_log(text: str) -> TrtexecLog:
    """Parse the console text of one run, whole or cut anywhere."""
    leveled = [_split(line) for line in text.splitlines()]
    warnings = tuple(dict.fromkeys(told for level, told in leveled if level == "W"))
    errors = tuple(dict.fromkeys(told for level, told in leveled if level in ("E", "F")))
    verdicts = _VERDICT.findall(text)
    last: Literal["passed", "failed", "none"] = "none"
    if verdicts:
        last = "passed" if verdicts[-1] == "PASSED" else "failed"
    version = _VERSION.search(text)
    built = _BUILT.search(text)
    return TrtexecLog(
        version=version[1] if version else version_from_banner(text) or "",
        verdict=last,
        device=_device(text),
        build_seconds=float(built[1]) if built else None,
        summary=_summary(text),
        warnings=warnings,
        errors=errors,
        fatal=tuple(line for line in errors if _FATAL.search(line)),
        unknown_options=tuple(m[1] for line in errors if (m := _UNKNOWN_OPTION.match(line))),
        parser_errors=_parser_errors(leveled),
        out_of_memory=memory.out_of_memory((*errors, *warnings)),
        workspace_too_small=memory.workspace_too_small((*errors, *warnings)),
    )


def _split(line: str) -> tuple[str, str]:
    """Return level and text of a line; the level is empty where the line continues another."""
    match = _LINE.match(line)
    if match is not None:
        return match[1], match[2].strip()
    return ("E" if _BARE.fullmatch(line) else ""), line.strip()


def _device(text: str) -> BuildDevice | None:
    found = {field: pattern.search(text) for field, pattern in _DEVICE.items()}
    name, sm, size = found["name"], found["sm"], found["memory"]
    if name is None or sm is None or size is None:
        return None
    return BuildDevice(
        name=name[1].strip(),
        sm=int(sm[1]) * 10 + int(sm[2]),
        memory_bytes=int(size[1]) * memory.MIB,
    )


def _summary(text: str) -> Summary | None:
    throughput = _THROUGHPUT.search(text)
    medians: dict[str, float] = {name: float(value) for name, value in _MEDIAN.findall(text)}
    if throughput is None or set(medians) != {"GPU Compute Time", "Latency"}:
        return None
    return Summary(
        throughput_qps=float(throughput[1]),
        gpu_compute_median_ms=medians["GPU Compute Time"],
        latency_median_ms=medians["Latency"],
    )


def _parser_errors(lines: list[tuple[str, str]]) -> tuple[ParserError, ...]:
    """Return the refused nodes: a head, a dump of the node, then the reason, over many lines."""
    # The streams are two: a line of information may come between the lines of an error.
    told = [(level, line) for level, line in lines if level not in ("I", "V")]
    starts = [n for n, (_, line) in enumerate(told) if _PARSING.search(line)]
    ends = [*starts[1:], len(told)]
    return tuple(_parser_error(told[start:end]) for start, end in zip(starts, ends, strict=False))


def _parser_error(lines: list[tuple[str, str]]) -> ParserError:
    """Return the refused node that the first of these lines begins."""
    head = _PARSING.search(lines[0][1])
    assert head is not None  # the caller found it there
    node, reason = head[3] or "", ""
    for place, (_, line) in enumerate(lines):
        if named := _NODE_NAME.match(line):
            node = named[1] or node
        if found := _PARSER_ERROR.search(line):
            # The reason itself stands on the next lines, which have no prefix.
            rest = itertools.takewhile(lambda entry: not entry[0], lines[place + 1 :])
            reason = " ".join((found[1], *(text for _, text in rest if text)))
            break
    return ParserError(number=int(head[1]), op=head[2], node=node, text=reason)


def why(status: int, log: TrtexecLog, lacks: str) -> str:
    """Return why a run of trtexec counts as failed.

    Args:
        status: its exit status.
        log: what it said.
        lacks: what is missing where nothing else is wrong.
    """
    if status > 128:
        return f"it was ended by signal {status - 128}"
    if status != 0 or log.verdict == "failed":
        return f"it ended with status {status}"
    if log.fatal:
        return "it says PASSED, after these errors"
    if log.verdict == "none":
        return "its output ends without PASSED or FAILED"
    return f"it says PASSED, and there is no {lacks}"
