"""Raw inputs and `--exportOutput` files: what goes in comes out, and what is torn is told."""

from __future__ import annotations

import numpy as np
import pytest

from elfatt_deploy.engine.trtexec_outputs import parse_outputs, write_input
from elfatt_deploy.errors import EngineError


def _text(values, dimensions="2x3", name="logits"):
    """Return a file as trtexec writes it."""
    return (
        f'[\n  {{ "name" : "{name}"\n  , "dimensions" : "{dimensions}"\n'
        f'  , "values" : [ {values} ]\n  }}\n]\n'
    )


SIX = "1, -2.5, 3e-05, 0, 5, 6"


def test_an_input_is_its_bytes_whatever_its_strides(tmp_path):
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    write_input(tmp_path / "a.bin", values.transpose(2, 0, 1))
    found = np.fromfile(tmp_path / "a.bin", "<f4").reshape(4, 2, 3)
    assert np.array_equal(found, values.transpose(2, 0, 1))


def test_an_input_of_another_type_or_without_a_place_is_refused(tmp_path):
    with pytest.raises(EngineError, match="the input is float64"):
        write_input(tmp_path / "a.bin", np.zeros(3))
    with pytest.raises(EngineError, match="cannot write"):
        write_input(tmp_path / "none" / "a.bin", np.zeros(3, np.float32))


@pytest.mark.parametrize("dimensions", ["2x3", "(2, 3)", "[2,3]"])
def test_outputs_are_arrays_by_name(dimensions):
    found = parse_outputs(_text(SIX, dimensions), "o.json")
    assert list(found) == ["logits"]
    assert found["logits"].dtype == np.float32
    assert np.array_equal(found["logits"], np.float32([[1, -2.5, 3e-5], [0, 5, 6]]))


def test_several_outputs_are_all_read():
    both = _text(SIX).rstrip("]\n") + ', {"name": "b", "dimensions": "1", "values": [7]}]'
    assert {n: v.shape for n, v in parse_outputs(both, "o.json").items()} == {
        "logits": (2, 3), "b": (1,),
    }  # fmt: skip


def test_what_is_no_finite_number_is_kept_for_the_comparison():
    found = parse_outputs(_text("nan, -nan, inf, -inf, 1, -NaN", name="inf, nan"), "o.json")
    values = found["inf, nan"].ravel()
    assert np.isnan(values[[0, 1, 5]]).all()
    assert values[2:5].tolist() == [np.inf, -np.inf, 1.0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "torn or no JSON"),
        (_text(SIX)[:-15], "torn or no JSON"),
        ("[]", "holds no outputs"),
        ("{}", "holds no outputs"),
        ("[3]", "an output that is none"),
        ('[{"name": "a"}]', "an output that is none: 'dimensions'"),
        (_text('"x"', "1"), "an output that is none"),
        (_text("[1], [2]", "2"), "'logits' has 2 values, and its shape is 2"),
        (_text(SIX, "2x4"), "'logits' has 6 values, and its shape is 2x4"),
    ],
)
def test_a_file_that_is_none_is_one_clear_error(text, told):
    with pytest.raises(EngineError, match=told):
        parse_outputs(text, "o.json")
