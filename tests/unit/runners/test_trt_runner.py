"""The TensorRT runner on the names of each version and both CUDA libraries.

The fakes move real bytes and run only what is waited for; nothing here has run on a GPU.
"""

from __future__ import annotations

import gc

import numpy as np
import pytest

from elfatt_deploy.errors import (
    EngineError,
    InputFileError,
    MissingDependency,
    PlanMismatch,
    RunnerError,
)
from elfatt_deploy.runners.trt_runner import TrtRunner

VERSIONS = ("8.2.1", "8.5.3", "8.6.1", "10.3.0", "10.13.3", "10.16.1", "11.4")
LIBRARIES = ("cuda-python", "cudart", "pycuda", "old pycuda")
GRAPHS = ("cuda-python", "cudart")
RUN_MS = 1.25


def _assert_nothing_lives(machine, told=""):
    if machine.live:  # streams of pycuda end with their last reference, which an error may hold
        gc.collect()
    assert machine.live == {}, told


def _images(batch, seed=0):
    return np.random.default_rng(seed).standard_normal((batch, 3, 4, 4)).astype(np.float32)


@pytest.fixture
def setting(cuda_fake, tensorrt_surface, plan_folder, fake):
    """Return a function that makes a machine, the batches it runs, and a runner."""

    def make(library="cuda-python", version="10.3.0", **more):
        machine = cuda_fake(library)
        behaviours, runs = fake("tensorrt_runtime").behaviours(machine, **more)
        trt = tensorrt_surface(version, behaviours)
        return machine, runs, TrtRunner(plan_folder(trt.__version__))

    return make


def _assert_logits(runner, images):
    result = runner.infer({"images": images})
    sums = images.reshape(len(images), -1).sum(1)
    assert list(result) == ["logits"]
    assert result["logits"].dtype == np.float32
    np.testing.assert_allclose(result["logits"], np.stack([sums, -sums], 1), rtol=1e-6)


def _sequence(runner, graph):
    with runner:
        _assert_logits(runner, _images(2))
        _assert_logits(runner, _images(4, seed=1))
        times = runner.compute_ms({"images": _images(3)}, repetitions=3, warmup=2, graph=graph)
        _assert_logits(runner, _images(1, seed=2))
    return times


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_and_library_runs_two_batches_and_a_timing(setting, library, version):
    machine, runs, runner = setting(library, version)
    assert _sequence(runner, graph=library in GRAPHS) == [RUN_MS] * 3
    assert runs == [2, 4, *[3] * (1 + 2 + 3), 1]
    _assert_nothing_lives(machine)


@pytest.mark.parametrize("version", ["8.2.1", "10.3.0"])
def test_an_engine_of_a_fixed_batch_runs_it_and_no_other(setting, version):
    _, _, runner = setting(version=version, dynamic=False)
    with runner:
        _assert_logits(runner, _images(2))
        with pytest.raises(RunnerError, match=r"the engine takes \(2, 3, 4, 4\)\n"):
            runner.infer({"images": _images(1)})


def test_the_name_tells_tensorrt_and_the_gpu_once_it_is_open(setting):
    _, _, runner = setting()
    assert runner.name == "trt"
    with runner:
        assert runner.name == "trt (TensorRT 10.3.0, NVIDIA Fake)"


def test_a_result_stays_what_it_was_when_the_next_one_comes(setting):
    _, _, runner = setting()
    with runner:
        first = runner.infer({"images": _images(2)})["logits"]
        kept = first.copy()
        runner.infer({"images": _images(2, seed=5)})
    np.testing.assert_array_equal(first, kept)


def test_images_that_do_not_lie_in_a_row_run_as_well(setting):
    _, _, runner = setting()
    with runner:
        _assert_logits(runner, _images(4)[::2, :, ::-1])


@pytest.mark.parametrize("library", ["cuda-python", "pycuda"])
@pytest.mark.parametrize("version", ["8.2.1", "10.3.0"])
def test_whichever_call_of_cuda_fails_nothing_leaks(setting, library, version):
    machine, _, runner = setting(library, version)
    graph = library in GRAPHS
    _sequence(runner, graph)
    names = list(machine.calls)
    assert len(names) > 50
    for number, name in enumerate(names, 1):
        machine, _, runner = setting(library, version)
        machine.fail_at = number
        with pytest.raises(EngineError, match=f"^{name} failed: ") as caught:
            _sequence(runner, graph)
        assert caught.value.hint
        del caught, runner
        _assert_nothing_lives(machine, f"{name}, call {number}, leaks")


@pytest.mark.parametrize("version", ["8.2.1", "10.3.0"])
@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        ("plugins", "does not register its plugins"),
        ("deserialize", "does not load .*model.plan"),
        ("create_context", "cannot create an execution context"),
        ("set_shape", r"refuses shape \(4, 3, 4, 4\) of 'images'"),
        ("execute", "does not run the engine"),
    ],
)
def test_what_tensorrt_refuses_comes_with_its_own_words(setting, version, refuse, message):
    machine, _, runner = setting(version=version, refuse=refuse)
    with pytest.raises(EngineError, match=message) as caught, runner:
        runner.infer({"images": _images(2)})
    assert f"[{refuse}] the fake refuses" in caught.value.message
    assert machine.live == {}


def test_memory_that_tensorrt_refuses_is_an_error(setting):
    machine, _, runner = setting(refuse="set_address")
    with pytest.raises(EngineError, match="refuses the memory of 'images'"):
        runner.open()
    assert machine.live == {}


@pytest.mark.parametrize("version", ["8.2.1", "10.3.0"])
def test_an_output_whose_shape_depends_on_values_is_refused(setting, version):
    machine, _, runner = setting(version=version, refuse="output_shape")
    with pytest.raises(EngineError, match=r"'logits' is not settled by the inputs: \(-1, 2\)"):
        runner.open()
    assert machine.live == {}


def test_a_plan_that_does_not_load_is_to_be_built_again(setting):
    _, _, runner = setting(refuse="deserialize")
    with pytest.raises(EngineError) as caught:
        runner.open()
    assert "elfatt-deploy build" in caught.value.hint


def test_an_engine_of_a_type_that_numpy_lacks_is_refused(setting):
    machine, _, runner = setting(version="10.3.0", dtype="BF16")
    with pytest.raises(EngineError, match="'images' of the engine holds .*BF16"):
        runner.open()
    assert machine.live == {}


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"image": _images(1)}, r"the engine takes images, not image\n"),
        ({}, r"the engine takes images, not -\n"),
        ({"images": _images(1), "more": _images(1)}, "not images, more"),
        ({"images": _images(1).astype(np.float64)}, "'images' is float64; the engine takes float"),
        ({"images": _images(5)}, r"takes \(1, 3, 4, 4\) to \(4, 3, 4, 4\)"),
        ({"images": _images(1)[:0]}, r"has shape \(0, 3, 4, 4\)"),
        ({"images": _images(1)[0]}, r"has shape \(3, 4, 4\)"),
        ({"images": _images(1)[..., :3]}, r"has shape \(1, 3, 4, 3\)"),
    ],
    ids=["other name", "none", "too many", "type", "batch", "no image", "rank", "size"],
)
def test_inputs_that_do_not_fit_are_refused_and_the_runner_goes_on(setting, feeds, message):
    _, _, runner = setting()
    with runner:
        with pytest.raises(RunnerError, match=message):
            runner.infer(feeds)
        with pytest.raises(RunnerError, match=message):
            runner.compute_ms(feeds, repetitions=1, warmup=0)
        _assert_logits(runner, _images(2))


def test_a_runner_that_is_not_open_does_not_run(setting):
    machine, _, runner = setting()
    with pytest.raises(RunnerError, match="trt is not open"):
        runner.infer({"images": _images(1)})
    with runner:
        pass
    with pytest.raises(RunnerError, match=r"trt \(TensorRT 10.3.0, NVIDIA Fake\) is not open"):
        runner.compute_ms({"images": _images(1)}, repetitions=1, warmup=0)
    runner.close()  # a second time does nothing
    assert machine.live == {}


def test_a_runner_can_be_opened_again(setting):
    machine, _, runner = setting()
    runner.open()
    runner.open()
    _assert_logits(runner, _images(2))
    held = len(machine.live)
    runner.close()
    assert (held, machine.live) == (5, {})  # a stream, and two memories for each of two tensors


def test_a_graph_is_refused_by_name_where_the_library_has_none(setting):
    machine, _, runner = setting("pycuda")
    with runner, pytest.raises(EngineError, match="pycuda cannot capture CUDA graphs"):
        runner.compute_ms({"images": _images(1)}, repetitions=1, warmup=0, graph=True)
    _assert_nothing_lives(machine)


def test_a_plan_of_another_tensorrt_or_gpu_never_reaches_tensorrt(setting, plan_folder):
    machine, _, runner = setting(refuse="deserialize")
    for change in ({"tensorrt": "10.13.3"}, {"tensorrt": "10.3.0", "sm": 86}):
        plan_folder(**change)
        with pytest.raises(PlanMismatch, match="does not belong here"):
            runner.open()
    assert machine.live == {}


def test_a_plan_without_a_manifest_is_refused(setting, tmp_path):
    _, _, runner = setting()
    (tmp_path / "plan.json").unlink()
    with pytest.raises(InputFileError, match="no plan of this program"):
        runner.open()


def test_a_plugin_library_that_does_not_load_is_named(setting, tmp_path):
    machine, _, runner = setting()
    library = tmp_path / "none.so"
    runner = TrtRunner(runner.plan, plugins=(library,))
    with pytest.raises(InputFileError, match=r"the plugin library .*none\.so does not load"):
        runner.open()
    assert machine.live == {}


def test_without_a_cuda_library_the_extra_is_named(setting):
    _, _, runner = setting("none")
    with pytest.raises(MissingDependency, match="neither of the packages"):
        runner.open()
