"""The interface over CUDA, on fakes of both libraries; nothing here has run on a GPU."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from elfatt_deploy.errors import EngineError, MissingDependency
from elfatt_deploy.runners import cuda

LIBRARIES = ("cuda-python", "cudart", "pycuda", "old pycuda")
GRAPHS = ("cuda-python", "cudart")


def _assert_nothing_lives(machine, told=""):
    if machine.live:  # streams of pycuda end with their last reference, which an error may hold
        gc.collect()
    assert machine.live == {}, told


def _through(gpu):
    """Send bytes to the device and back; return them, and the milliseconds that CUDA counts."""
    with (
        gpu.stream() as stream,
        gpu.event() as start,
        gpu.event() as end,
        gpu.pinned_memory(8) as there,
        gpu.pinned_memory(8) as back,
        gpu.device_memory(8) as memory,
    ):
        there.array[:] = np.arange(8)
        back.array[:] = 0
        gpu.record(start, stream)
        gpu.copy_in(memory, there, 8, stream)
        gpu.copy_out(back, memory, 6, stream)
        gpu.record(end, stream)
        assert not back.array.any()  # nothing has run: the stream was not waited for
        gpu.synchronize(stream)
        return back.array.tolist(), gpu.elapsed_ms(start, end)


@pytest.mark.parametrize("library", LIBRARIES)
def test_bytes_go_to_the_device_and_back_and_everything_is_given_back(cuda_fake, library):
    machine = cuda_fake(library)
    with cuda.load() as gpu:
        assert _through(gpu) == ([0, 1, 2, 3, 4, 5, 0, 0], 0.5)
    _assert_nothing_lives(machine)


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_device_is_named_with_its_capability_and_memory(cuda_fake, library):
    cuda_fake(library)
    with cuda.load() as gpu:
        device = gpu.device()
    assert (device.name, device.sm, device.memory_bytes) == ("NVIDIA Fake", 87, 8 << 30)
    assert gpu.name == ("pycuda" if "pycuda" in library else "cuda-python")


@pytest.mark.parametrize("library", LIBRARIES)
def test_whichever_call_fails_it_is_named_and_nothing_leaks(cuda_fake, library):
    machine = cuda_fake(library)
    with cuda.load() as gpu:
        _through(gpu)
    names = list(machine.calls)
    for number, name in enumerate(names, 1):
        machine = cuda_fake(library)
        machine.fail_at = number
        with pytest.raises(EngineError, match=f"^{name} failed: ") as caught, cuda.load() as gpu:
            _through(gpu)
        assert caught.value.exit_code == 5
        assert machine.calls[: number - 1] == names[: number - 1]
        del caught
        _assert_nothing_lives(machine, f"{name}, call {number}, leaks")


@pytest.mark.parametrize("library", GRAPHS)
def test_a_graph_runs_what_was_captured_as_often_as_it_is_launched(cuda_fake, library):
    machine = cuda_fake(library)
    with (
        cuda.load() as gpu,
        gpu.stream() as stream,
        gpu.pinned_memory(4) as host,
        gpu.device_memory(4) as memory,
    ):
        assert gpu.graphs
        with gpu.capture(stream, lambda: gpu.copy_in(memory, host, 4, stream)) as graph:
            gpu.synchronize(stream)
            assert machine.clock_ms == 0  # captured, not run
            gpu.launch(graph, stream)
            gpu.launch(graph, stream)
            gpu.synchronize(stream)
            assert machine.clock_ms == 0.5
    assert machine.live == {}


@pytest.mark.parametrize("library", GRAPHS)
def test_whichever_call_of_a_capture_fails_nothing_leaks(cuda_fake, library):
    def work():
        with cuda.load() as gpu, gpu.stream() as stream, gpu.event() as event:
            with gpu.capture(stream, lambda: gpu.record(event, stream)) as graph:
                gpu.launch(graph, stream)
            gpu.synchronize(stream)

    machine = cuda_fake(library)
    work()
    names = list(machine.calls)
    assert "cudaGraphExecDestroy" in names
    for number, name in enumerate(names, 1):
        machine = cuda_fake(library)
        machine.fail_at = number
        with pytest.raises(EngineError, match=f"^{name} failed: "):
            work()
        _assert_nothing_lives(machine, f"{name}, call {number}, leaks")


def test_what_fails_while_it_is_captured_ends_the_capture(cuda_fake):
    machine = cuda_fake("cuda-python")
    with cuda.load() as gpu, gpu.stream() as stream:
        with pytest.raises(KeyboardInterrupt):
            gpu.capture(stream, lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        gpu.synchronize(stream)  # would fail if the capture went on
        assert len(machine.live) == 1  # the stream alone
    assert machine.live == {}


@pytest.mark.parametrize("library", ["pycuda", "no graphs"])
def test_a_library_without_graphs_says_so(cuda_fake, library):
    cuda_fake(library)
    with cuda.load() as gpu, gpu.stream() as stream:
        assert not gpu.graphs
        with pytest.raises(EngineError, match="cannot capture CUDA graphs") as caught:
            gpu.capture(stream, lambda: None)
    assert "[trt]" in caught.value.hint


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_was_given_back_cannot_be_used(cuda_fake, library):
    machine = cuda_fake(library)
    with cuda.load() as gpu:
        memory, stream, host = gpu.device_memory(4), gpu.stream(), gpu.pinned_memory(4)
        for owned in (memory, stream, host):
            owned.close()
            owned.close()  # a second time does nothing
        assert [t for t in machine.live.values() if t != "context"] == []
        for use in (
            lambda: memory.address,
            lambda: gpu.synchronize(stream),
            lambda: host.array,
        ):
            with pytest.raises(EngineError, match="after it was given back"):
                use()


def test_an_error_under_way_is_not_replaced_by_one_of_giving_back(cuda_fake):
    machine = cuda_fake("cuda-python")
    with cuda.load() as gpu:
        stream = gpu.stream()

    def fail():
        with stream:
            machine.fail_at = len(machine.calls) + 1
            raise ValueError("the first")

    with pytest.raises(ValueError, match="the first"):
        fail()
    assert machine.calls[-1] == "cudaStreamDestroy"


def test_a_missing_driver_is_told_by_the_call_that_needs_it(cuda_fake, monkeypatch):
    cuda_fake("cuda-python")
    gpu = cuda.load()

    def absent():
        raise RuntimeError("Failed to dlopen libcuda.so.1")

    monkeypatch.setattr(gpu._runtime, "cudaGetDevice", absent)
    with pytest.raises(EngineError, match=r"cudaGetDevice cannot be called: .*libcuda\.so\.1"):
        gpu.device()


def test_without_a_library_the_extra_is_named(cuda_fake):
    cuda_fake("none")
    with pytest.raises(MissingDependency, match="neither of the packages") as caught:
        cuda.load()
    assert "[trt]" in caught.value.hint
    assert "pycuda" in caught.value.hint
