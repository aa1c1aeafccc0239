"""A network under other names: what is saved, what is loaded, and what is refused."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from elfatt_deploy.errors import ModelError
from elfatt_deploy.models import keys, seeded

RENAMES = (
    (r"^0\.", "stem."),
    (r"^1\.", "body."),
    (r"^body\.weight$", "body.gain"),
)
NAMES = [
    "stem.weight", "stem.bias", "body.gain", "body.bias", "body.running_mean", "body.running_var",
    "body.num_batches_tracked", "2.weight", "2.bias",
]  # fmt: skip


def _plain():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 2))


@pytest.fixture
def net():
    made = _plain()
    keys.use_keys(made, RENAMES)
    return made


def _other_values(module):
    """Return tensors under the module's keys that are not its own."""
    return {
        key: torch.full_like(t, i + 2) for i, (key, t) in enumerate(module.state_dict().items())
    }


def test_keys_change_in_their_order_and_the_tensors_are_those_of_the_module(net):
    state = net.state_dict()
    assert list(state) == NAMES
    assert state["body.gain"].data_ptr() == net[1].weight.data_ptr()
    assert [name for name, _ in net.named_parameters()][:2] == ["0.weight", "0.bias"]


def test_each_rule_sees_what_the_rules_before_it_made():
    assert keys.renamed("1.weight", RENAMES) == "body.gain"
    assert keys.renamed("1.weight", RENAMES[::-1]) == "body.weight"


def test_a_replacement_may_be_a_function():
    rules = ((r"^op\.(\d+)\.", lambda match: f"res{int(match[1]) - 1}."),)
    assert keys.renamed("op.12.weight", rules) == "res11.weight"


def test_saved_tensors_load_strictly(net):
    values = _other_values(net)
    net.load_state_dict(values, strict=True)
    assert all(torch.equal(tensor, values[key]) for key, tensor in net.state_dict().items())
    assert torch.equal(net[1].running_var, values["body.running_var"])


def test_what_is_loaded_is_left_as_it_is(net):
    values = _other_values(net)
    net.load_state_dict(values)
    assert list(values) == NAMES


def test_the_names_of_the_attributes_are_not_accepted(net):
    values = {**net.state_dict(), "0.weight": torch.zeros(4, 3, 1, 1)}
    before = net[0].weight.clone()
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "0.weight"'):
        net.load_state_dict(values, strict=True)
    found = net.load_state_dict(values, strict=False)
    assert (found.missing_keys, found.unexpected_keys) == ([], ["0.weight"])
    assert torch.equal(net[0].weight, before)
    with pytest.raises(RuntimeError, match="Missing key"):
        net.load_state_dict(_plain().state_dict(), strict=True)


def test_unknown_and_missing_keys_are_told(net):
    values = _other_values(net)
    values["body.scale"] = values.pop("body.gain")
    found = net.load_state_dict(values, strict=False)
    assert (found.missing_keys, found.unexpected_keys) == (["1.weight"], ["body.scale"])


def test_names_may_move_by_one_place():
    net = nn.ModuleList(nn.Linear(1, 1, bias=False) for _ in range(3))
    keys.use_keys(net, ((r"^(\d)\.", lambda match: f"{int(match[1]) + 1}."),))
    assert list(net.state_dict()) == ["1.weight", "2.weight", "3.weight"]
    values = {f"{n}.weight": torch.full((1, 1), float(n)) for n in (1, 2, 3)}
    net.load_state_dict(values, strict=True)
    assert [layer.weight.item() for layer in net] == [1, 2, 3]
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "0.weight"'):
        net.load_state_dict({**values, "0.weight": torch.zeros(1, 1)}, strict=True)


def test_a_part_of_another_module_keeps_its_names(net):
    outer = nn.ModuleDict({"net1": _plain(), "net": net, "net2": _plain()})
    own = list(_plain().state_dict())
    wanted = [
        *(f"net1.{key}" for key in own),
        *(f"net.{key}" for key in NAMES),
        *(f"net2.{key}" for key in own),
    ]
    assert list(outer.state_dict()) == wanted
    assert list(outer.state_dict(prefix="x.")) == [f"x.{key}" for key in wanted]
    values = _other_values(outer)
    outer.load_state_dict(values, strict=True)
    assert torch.equal(net[0].weight, values["net.stem.weight"])
    assert torch.equal(outer["net2"][0].weight, values["net2.0.weight"])


def test_two_modules_with_tables_of_their_own_stand_side_by_side(net):
    other = _plain()
    keys.use_keys(other, ((r"^2\.", "head."),))
    outer = nn.ModuleList([net, other])
    assert "0.stem.weight" in outer.state_dict()
    assert "1.head.weight" in outer.state_dict()
    assert "1.0.weight" in outer.state_dict()
    outer.load_state_dict(_other_values(outer), strict=True)


@pytest.mark.parametrize("how", ["copied", "pickled"])
def test_a_copy_has_the_names_and_tensors_of_its_own(how, net):
    twin = copy.deepcopy(net) if how == "copied" else pickle.loads(pickle.dumps(net))
    assert list(twin.state_dict()) == NAMES
    before = net[0].weight.clone()
    twin.load_state_dict(_other_values(twin), strict=True)
    assert torch.equal(net[0].weight, before)
    assert not torch.equal(twin[0].weight, before)


def test_seeded_values_are_drawn_for_the_other_names():
    net = _plain()
    keys.use_keys(net, RENAMES[:2])
    seeded.fill(net)
    wanted = torch.from_numpy(seeded.parameter("stem.weight", (4, 3, 1, 1)))
    assert torch.equal(net[0].weight, wanted)
    assert torch.equal(
        net[1].running_var, torch.from_numpy(seeded.parameter("body.running_var", (4,)))
    )


def test_a_table_that_makes_one_key_of_two_is_refused():
    net = nn.ModuleList([nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)])
    with pytest.raises(ModelError, match=r"turns both '0.weight' and '1.weight' into 'x.weight'"):
        keys.use_keys(net, ((r"^\d\.", "x."),))
    assert list(net.state_dict()) == ["0.weight", "1.weight"]
