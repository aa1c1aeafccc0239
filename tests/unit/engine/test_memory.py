"""The workspace to begin with, the next one, and which log lines say what went wrong."""

from __future__ import annotations

import pytest

from elfatt_deploy.engine import memory

MIB = memory.MIB


@pytest.mark.parametrize(
    ("device_mib", "workspace_mib"),
    [(3955, 512), (7620, 1024), (15_700, 1962.5), (30_700, 3837.5), (62_800, 4096)],
    ids=["nano", "orin-nano-8gb", "orin-nx-16gb", "agx-orin-32gb", "agx-orin-64gb"],
)
def test_the_workspace_grows_with_the_board(device_mib, workspace_mib):
    found = memory.forecast(device_mib * MIB, 80 * MIB)
    assert found.workspace_bytes == workspace_mib * MIB
    assert found.peak_bytes == found.workspace_bytes + (147 + 241 + 3 * 80) * MIB


def test_a_large_model_leaves_less_and_never_less_than_the_smallest():
    assert memory.forecast(3955 * MIB, 900 * MIB).workspace_bytes == (3955 - 388 - 2700) * MIB // 2
    assert memory.forecast(3955 * MIB, 2000 * MIB).workspace_bytes == memory.SMALLEST_BYTES


def test_what_was_asked_for_is_kept_and_a_tight_board_is_told():
    asked = memory.forecast(3955 * MIB, 80 * MIB, 3000 * MIB)
    assert (asked.workspace_bytes, asked.tight) == (3000 * MIB, True)
    assert not memory.forecast(3955 * MIB, 80 * MIB).tight


def test_the_workspace_is_halved_down_to_the_smallest():
    sizes, size = [], 512 * MIB
    while size is not None:
        sizes.append(size // MIB)
        size = memory.next_workspace(size)
    assert sizes == [512, 256, 128, 64]


@pytest.mark.parametrize(
    "line",
    [
        "2: [virtualMemoryBuffer.cpp::resizePhysical::145] Error Code 2: OutOfMemory (no further "
        "information)",
        "[defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)",
        "Requested amount of GPU memory (15485030400 bytes) could not be allocated.",
        "autotuning: User allocator error allocating 15485030400-byte buffer",
        "Device memory is insufficient to use tactic.",
        "Skipping tactic 3 due to insuficient memory on 538 requested",  # codespell:ignore
        "std::bad_alloc",
    ],
)
def test_lines_of_every_version_that_say_out_of_memory(line):
    assert memory.out_of_memory(["Parsing", line]) == line
    assert memory.workspace_too_small([line]) is None


def test_a_small_workspace_is_no_lack_of_memory():
    line = "Could not find any implementation for node /conv due to insufficient workspace."
    assert memory.workspace_too_small([line]) == line
    assert memory.out_of_memory([line, "Engine generation failed"]) is None
