"""One command on several devices at once: a process for each, so that each puts its board back."""

from __future__ import annotations

import json as json_text
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import IO

from elfatt_deploy.cli import output

_OPTION = "--device"
#: how often the processes are looked after
_POLL_S = 1.0


def run(devices: Sequence[str], store: Path, *, json: bool, quiet: bool) -> int:
    """Run this very command once for each device, and show what each came to.

    Ctrl-C reaches all of them: each ends its cell, puts its board back and says so.

    Args:
        devices: of the command line.
        store: the results file, whose records tell how far all are.
        json: whether one JSON document is shown.
        quiet: whether nothing is said on stderr.

    Returns:
        The largest exit code.
    """
    arguments = _without(sys.argv[1:], _OPTION)
    running: dict[str, tuple[subprocess.Popen[str], IO[str]]] = {}
    with tempfile.TemporaryDirectory(prefix="elfatt-deploy-") as folder:
        for number, device in enumerate(devices):
            result: IO[str] = (Path(folder) / str(number)).open("w+", encoding="utf-8")
            command = [sys.executable, "-m", "elfatt_deploy", *arguments, _OPTION, device]
            running[device] = (subprocess.Popen(command, stdout=result, text=True), result)
        with output.progress(quiet) as progress:
            codes = _wait(running, store, progress)
        texts = {}
        for device, (_, written) in running.items():
            written.seek(0)
            texts[device] = written.read()
            written.close()
    if json:
        reports = {device: json_text.loads(text) for device, text in texts.items() if text}
        output.show_json("sweeps", {"passed": not any(codes.values()), "devices": reports})
    else:
        for device, text in texts.items():
            output.show(f"{device}: exit code {codes[device]}\n{text}".rstrip())
    return max(codes.values())


def _wait(
    running: dict[str, tuple[subprocess.Popen[str], IO[str]]], store: Path, progress: output.Stage
) -> dict[str, int]:
    """Wait for all of them, also after Ctrl-C, which they got as well; pass SIGTERM on."""

    def end(number: int, frame: FrameType | None) -> None:
        for process, _ in running.values():
            process.terminate()

    signal.signal(signal.SIGTERM, end)
    before = _lines(store)
    while True:
        try:
            for process, _ in running.values():
                try:
                    process.wait(_POLL_S)
                except subprocess.TimeoutExpired:
                    break
            else:
                return {device: process.returncode for device, (process, _) in running.items()}
            left = [name for name, (process, _) in running.items() if process.poll() is None]
            progress(f"{', '.join(left)}: {_lines(store) - before} records so far")
        except KeyboardInterrupt:
            output.say("interrupted: each board is put back")


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def _without(arguments: Sequence[str], option: str) -> list[str]:
    """Return arguments without an option and its value."""
    kept, skip = [], False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == option:
            skip = True
        elif not argument.startswith(f"{option}="):
            kept.append(argument)
    return kept
