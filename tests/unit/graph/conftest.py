"""The plugin's node alone in a graph."""

from __future__ import annotations

import pytest


@pytest.fixture
def node_graph(fake):
    """Return a function that makes a graph of one node; see `tests/fakes/plugin_graph.py`."""
    return fake("plugin_graph").model
