"""Signals that end this program, while a board is changed.

The first one ends what is under way, as an exception, so that the board is put back on the way out;
SIGTERM and SIGHUP as well as Ctrl-C. Those that follow are told that the board is being put back,
and are remembered: they must not break off half of it. Signals reach the main thread alone: a
session in another thread leaves them to whoever started that thread.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_NUMBERS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
_WAIT = b"\nthe board is being put back: please wait. It ends by itself.\n"


class Interrupts:
    """Takes the signals over for the time of a `with` block; one may stand in another."""

    def __init__(self) -> None:
        """Nothing is taken over before `with`."""
        self._former: dict[int, Any] = {}
        self._held = False
        #: signals that came while they were held
        self.waiting: list[int] = []

    def __enter__(self) -> Interrupts:
        """Take over those that are not ignored, as `nohup` has it."""
        if threading.current_thread() is threading.main_thread():
            for number in _NUMBERS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._former[number] = signal.signal(number, self._come)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give them back; what came while they were held ends the program now.

        Raises:
            KeyboardInterrupt: Ctrl-C came while nothing else was ending the program.
            SystemExit: another signal did.
        """
        for number, former in self._former.items():
            signal.signal(number, former)
        self._former.clear()
        if self.waiting and kind is None:
            raise _exception(self.waiting[0])

    def hold(self) -> None:
        """From now on, only remember them."""
        self._held = True

    def _come(self, number: int, frame: FrameType | None) -> None:
        if self._held:
            self.waiting.append(number)
            with contextlib.suppress(OSError):
                os.write(2, _WAIT)  # print could be the very thing that was interrupted
            return
        self._held = True
        raise _exception(number)


def _exception(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
