"""Contracts, and what a runner can keep of them."""

from __future__ import annotations

import pytest

from elfatt_deploy.bench import contracts
from elfatt_deploy.errors import UnknownNameError, UsageError


def test_the_contracts_are_those_of_the_design():
    assert {c.name: c.in_flight for c in contracts.CONTRACTS.values()} == {
        "compute/1": 2, "single-stream/1": 1, "throughput/1": 2, "paper/1": 1,
    }  # fmt: skip
    assert contracts.contract("paper/1").runs == 100


def test_an_unknown_contract_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean throughput/1"):
        contracts.contract("throughput/2")


@pytest.mark.parametrize("runner", ["ort", "torch"])
@pytest.mark.parametrize("provider", ["cpu", "cuda"])
def test_no_runner_of_the_host_clock_claims_gpu_compute(runner, provider):
    with pytest.raises(UsageError, match="cannot keep compute/1"):
        contracts.differences(contracts.contract("compute/1"), runner, provider)


def test_what_differs_is_said():
    single = contracts.differences(contracts.contract("single-stream/1"), "ort", "cpu")
    assert any("no device transfers" in text for text in single)
    assert not any("two threads" in text for text in single)
    two = contracts.differences(contracts.contract("throughput/1"), "torch", "cuda")
    assert any("two threads share one module" in text for text in two)
    assert any("not pinned" in text for text in two)


def test_an_unknown_runner_is_refused():
    with pytest.raises(UnknownNameError, match="unknown runner 'onnx'"):
        contracts.differences(contracts.contract("throughput/1"), "onnx", "cpu")


@pytest.mark.parametrize("contract", contracts.CONTRACTS)
def test_trtexec_keeps_every_contract_and_says_how(contract):
    found = contracts.differences(contracts.contract(contract), "trtexec", "tensorrt")
    assert len(found) == 2
    assert ("--exposeDMA" in found[0]) == (contract in ("single-stream/1", "paper/1"))


def test_trt_in_process_times_compute_by_events_and_has_one_run_in_flight():
    (found,) = contracts.differences(contracts.contract("compute/1"), "trt", "tensorrt")
    assert "GPU events" in found
    assert "one in flight, not two" in found
    with pytest.raises(UsageError, match="trt cannot keep throughput/1") as caught:
        contracts.differences(contracts.contract("throughput/1"), "trt", "tensorrt")
    assert "--runner trtexec" in caught.value.hint


@pytest.mark.parametrize(
    ("runner", "provider"),
    [("torch", "tensorrt"), ("trt", "cuda"), ("trtexec", "cpu"), ("ort", "npu")],
)
def test_a_runner_runs_on_its_own_providers_alone(runner, provider):
    with pytest.raises(UsageError, match=f"--runner {runner} does not run on {provider}"):
        contracts.differences(contracts.contract("single-stream/1"), runner, provider)


def test_that_tensorrt_under_onnx_runtime_may_use_tf32_is_said():
    found = contracts.differences(contracts.contract("single-stream/1"), "ort", "tensorrt")
    assert any("no switch for TF32" in text for text in found)
