"""docs/prediction.md tells the errors of the constants that are shipped."""

from __future__ import annotations

import importlib.util

import pytest

from elfatt_deploy.predict.constants import constants


@pytest.fixture(scope="module")
def script(pytestconfig):
    path = pytestconfig.rootpath / "docs" / "prediction.py"
    spec = importlib.util.spec_from_file_location("prediction_page", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "part", ["constants", "errors", "order", "fp32", "mixed", "shares", "plain", "launch", "counts"]
)
def test_a_table_of_the_page_is_what_the_script_makes(part, script, pytestconfig):
    page = (pytestconfig.rootpath / "docs" / "prediction.md").read_text(encoding="utf-8")
    _, _, rest = page.partition(f"<!-- {part} -->")
    shown, end, _ = rest.partition(f"<!-- end of {part} -->")
    assert end, f"the page has no part {part}"
    made = script.FILLED[part](constants()).splitlines()
    assert [line.strip() for line in shown.split("\n") if line.strip()] == made


def test_every_part_of_the_page_is_filled_by_the_script(script, pytestconfig):
    page = (pytestconfig.rootpath / "docs" / "prediction.md").read_text(encoding="utf-8")
    for part in script.FILLED:
        assert page.count(f"<!-- {part} -->") == page.count(f"<!-- end of {part} -->") == 1
    assert page.count("<!-- end of ") == len(script.FILLED)


def test_filling_again_changes_the_tables_alone(script, monkeypatch):
    monkeypatch.setattr(script, "FILLED", {"errors": lambda _: "| new |"})
    text = "before\n- item\n  <!-- errors -->\n  | old |\n  <!-- end of errors -->\nafter\n"
    once = script.page(text, constants())
    assert once == (
        "before\n- item\n  <!-- errors -->\n\n  | new |\n\n  <!-- end of errors -->\nafter\n"
    )
    assert script.page(once, constants()) == once
