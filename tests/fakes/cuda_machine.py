"""A GPU that is not there: memory that holds bytes, streams that really wait, a clock that counts.

The fakes of cuda-python and pycuda drive one `Machine`. Work that is put into a stream runs when
the stream is synchronised, not before, so what reads too early reads zeros. `call` is asked before
every call of a library and fails at call number `fail_at` (from 1). `live` holds what was taken and
not given back; giving back twice, or what was never taken, is an AssertionError.
"""

from __future__ import annotations

import itertools

COPY_MS = 0.25


class Failed(Exception):
    """The call of this name fails, as the test asked."""


class Stream:
    """Work that waits; while it is captured, work is recorded in place of waiting."""

    def __init__(self):
        self.waiting = []
        self.captured = None

    def add(self, work):
        (self.waiting if self.captured is None else self.captured).append(work)


class Event:
    """A time of the machine's clock, once it has come."""

    def __init__(self):
        self.time_ms = None


class Machine:
    """One GPU."""

    name, sm, memory_bytes = "NVIDIA Fake", 87, 8 << 30
    Failed, new_stream, new_event = Failed, Stream, Event

    def __init__(self):
        self.calls, self.fail_at = [], None
        self.clock_ms = 0.0
        self.live = {}
        self._handles = itertools.count(0x7000_0000, 0x10_0000)

    def call(self, name):
        """Note a call; raise Failed where the test wants it to fail."""
        self.calls.append(name)
        if len(self.calls) == self.fail_at:
            raise Failed(name)

    def take(self, thing):
        """Return the handle of something new: a bytearray, a Stream, an Event, ..."""
        handle = next(self._handles)
        self.live[handle] = thing
        return handle

    def give(self, handle):
        """Take something back."""
        assert handle in self.live, f"{handle:#x} is given back twice, or was never taken"
        del self.live[handle]

    def bytes_at(self, address, size):
        """Return device memory as a writable view of `size` bytes."""
        for base, thing in self.live.items():
            if isinstance(thing, bytearray) and base <= address < base + len(thing):
                start = address - base
                assert start + size <= len(thing), "device memory is used beyond its end"
                return memoryview(thing)[start : start + size]
        raise AssertionError(f"{address:#x} is no device memory")

    def copy_in(self, stream, address, size, source):
        """Enqueue a copy to the device; `source` gives the bytes when it runs."""

        def work():
            self.bytes_at(address, size)[:] = source()
            self.clock_ms += COPY_MS

        self.live[stream].add(work)

    def copy_out(self, stream, address, size, goal):
        """Enqueue a copy to the host; `goal` takes the bytes when it runs."""

        def work():
            goal(bytes(self.bytes_at(address, size)))
            self.clock_ms += COPY_MS

        self.live[stream].add(work)

    def record(self, event, stream):
        """Enqueue the taking of a time."""
        found = self.live[event]
        found.time_ms = None

        def work():
            found.time_ms = self.clock_ms

        self.live[stream].add(work)

    def synchronize(self, stream):
        """Run what waits in a stream."""
        found = self.live[stream]
        assert found.captured is None, "a stream is waited for while it is captured"
        while found.waiting:
            found.waiting.pop(0)()

    def elapsed_ms(self, start, end):
        """Return the time between two events, or None where one has not come."""
        times = [self.live[event].time_ms for event in (start, end)]
        return None if None in times else times[1] - times[0]
