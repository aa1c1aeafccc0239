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
