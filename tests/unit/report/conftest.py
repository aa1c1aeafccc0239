"""Records of emulated boards and of a laptop, as `tests/fakes` makes them."""

from __future__ import annotations

import pytest

from elfatt_deploy.report import assembling, html, selection
from elfatt_deploy.report.assembling import Asked, Given


@pytest.fixture(scope="session")
def runs(fake):
    return fake("run_records")


@pytest.fixture(scope="session")
def made(fake):
    return fake("report_records")


@pytest.fixture(scope="session")
def sweeps(runs, made):
    """Simulated sweeps of both boards, complete."""
    return made.paper_sweeps(runs)


@pytest.fixture(scope="session")
def damaged(sweeps, runs, made):
    """The same with a gap, a failure, and doubtful, unproved and quick records."""
    return made.damaged(sweeps, runs)


@pytest.fixture(scope="session")
def laptop(runs, made):
    return made.laptop(runs)


@pytest.fixture(scope="session")
def report_of():
    """Return a function from records to a report of them, simulated ones too."""

    def make(records, *tables, figures=()):
        asked = Asked(tables=tuple(tables), figures=tuple(figures))
        given = Given(records=tuple(records))
        return assembling.assemble(given, asked, include_simulated=True)

    return make


@pytest.fixture(scope="session")
def large(runs, made, report_of):
    """The page of 2,000 records."""
    return html.page(report_of(made.many(runs)))


@pytest.fixture(scope="session")
def settings():
    """Return a function from records to records by setting."""
    return selection.by_setting


@pytest.fixture(scope="session")
def values():
    """Return a function from a table to a dictionary a row, from names of columns to entries."""

    def read(table):
        names = [column.name for column in table.columns]
        return [dict(zip(names, row.entries, strict=True)) for row in table.rows]

    return read
