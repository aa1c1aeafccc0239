"""A torch module runs in float32 and eval mode, and is left as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from elfatt_deploy.errors import RunnerError, UnknownNameError
from elfatt_deploy.runners.torch_runner import TorchRunner

IMAGES = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) / 24


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop, self.norm, self.fc = nn.Dropout(0.5), nn.BatchNorm1d(12), nn.Linear(12, 4)

    def forward(self, images):
        return self.fc(self.norm(self.drop(images.flatten(1))))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return _Net()


def test_the_module_runs_in_eval_mode_and_keeps_its_own(net):
    net.train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with TorchRunner(net) as runner:
        first, second = (runner.infer({"images": IMAGES})["logits"] for _ in range(2))
    assert net.training
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key]), key
    with torch.no_grad():
        expected = net.eval()(torch.from_numpy(IMAGES)).numpy()
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(second, expected)
    assert (first.dtype, first.shape) == (np.float32, (2, 4))
    assert runner.name == "torch float32 (cpu)"


def test_another_precision_runs_in_float32_and_is_left_alone(net):
    net.double()
    with TorchRunner(net) as runner:
        assert runner.infer({"images": IMAGES})["logits"].dtype == np.float32
    assert net.fc.weight.dtype == torch.float64


def test_no_gradient_is_recorded(net):
    class Watch(nn.Module):
        def forward(self, images):
            assert torch.is_inference_mode_enabled()
            return net(images)

    with TorchRunner(Watch()) as runner:
        assert runner.infer({"images": IMAGES})["logits"].shape == (2, 4)


def test_images_that_must_not_be_written_to_are_fine(net):
    images = IMAGES.copy()
    images.setflags(write=False)
    with TorchRunner(net) as runner:
        runner.infer({"images": images[:, :, ::-1]})


def test_threads_are_set_while_it_is_open_only(net):
    before = torch.get_num_threads()
    seen = []
    net.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    with TorchRunner(net, threads=before + 1) as runner:
        runner.infer({"images": IMAGES})
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_names_are_those_that_were_given(net):
    with TorchRunner(net, input_name="x", output_name="y") as runner:
        assert list(runner.infer({"x": IMAGES})) == ["y"]
        with pytest.raises(RunnerError, match="takes 'x', not images"):
            runner.infer({"images": IMAGES})


def test_a_runner_works_only_while_it_is_open(net):
    runner = TorchRunner(net)
    with pytest.raises(RunnerError, match="is not open"):
        runner.infer({"images": IMAGES})
    with runner:
        pass
    with pytest.raises(RunnerError, match="is not open"):
        runner.infer({"images": IMAGES})
    with runner:  # and again after it was closed
        runner.infer({"images": IMAGES})


def test_images_that_the_module_does_not_take_are_shown(net):
    with TorchRunner(net) as runner, pytest.raises(RunnerError, match=r"on \(1, 3, 5, 5\): "):
        runner.infer({"images": np.zeros((1, 3, 5, 5), np.float32)})


def test_a_module_that_gives_no_tensor_is_refused(net):
    class Pair(nn.Module):
        def forward(self, images):
            return net(images), images

    with TorchRunner(Pair()) as runner, pytest.raises(RunnerError, match="gives a tuple"):
        runner.infer({"images": IMAGES})


def test_without_a_device_the_message_says_so(net, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    runner = TorchRunner(net, device="cuda")
    with pytest.raises(RunnerError, match="finds no CUDA device") as caught, runner:
        pass
    assert "nvidia-smi" in caught.value.hint
    with pytest.raises(UnknownNameError, match="unknown device of torch 'cud': did you mean cuda"):
        TorchRunner(net, device="cud")


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", False), ("tf32", True)])
@pytest.mark.parametrize("before", [False, True])
def test_tf32_is_on_only_where_it_is_asked_for(net, monkeypatch, precision, allowed, before):
    """Without a GPU: the copy is kept on the CPU, all else is as on one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(nn.Module, "to", lambda module, device: module)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", before)
    with TorchRunner(net, device="cuda", precision=precision):
        assert torch.backends.cudnn.allow_tf32 == allowed
        assert torch.backends.cuda.matmul.allow_tf32 == allowed
    assert torch.backends.cudnn.allow_tf32 == before


def test_fp16_runs_in_half_and_gives_float32(net):
    seen = []
    net.register_forward_hook(lambda module, given, out: seen.append((given[0].dtype, out.dtype)))
    with TorchRunner(net) as runner, TorchRunner(net, precision="fp16") as half:
        expected = runner.infer({"images": IMAGES})["logits"]
        found = half.infer({"images": IMAGES})["logits"]
    assert seen == [(torch.float32,) * 2, (torch.float16,) * 2]
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).max() < 1e-2
    assert half.name == "torch float16 (cpu)"
    assert net.fc.weight.dtype == torch.float32
    with pytest.raises(UnknownNameError, match="unknown precision of torch 'int8'"):
        TorchRunner(net, precision="int8")


def test_compile_is_asked_for_the_copy_and_its_result_runs(net, monkeypatch):
    compiled = []

    def compile_(module):
        compiled.append(module)
        return lambda images: module(images) + 1

    monkeypatch.setattr(torch, "compile", compile_)
    with TorchRunner(net) as plain, TorchRunner(net, compiled=True) as runner:
        expected = plain.infer({"images": IMAGES})["logits"] + 1
        np.testing.assert_allclose(runner.infer({"images": IMAGES})["logits"], expected, rtol=1e-6)
    assert runner.name == "torch float32 (cpu, compiled)"
    assert compiled[0] is not net


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
def test_a_gpu_gives_the_logits_of_the_cpu(net):
    with TorchRunner(net) as here, TorchRunner(net, device="cuda") as there:
        expected = here.infer({"images": IMAGES})["logits"]
        np.testing.assert_allclose(there.infer({"images": IMAGES})["logits"], expected, atol=1e-5)
