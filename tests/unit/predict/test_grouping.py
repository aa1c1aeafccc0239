"""Ops to kernels: one each, or grouped."""

from __future__ import annotations

from elfatt_deploy.predict.grouping import Op, Use, eager_kernels, fused_kernels


def _use(storage, size=100, *, constant=False):
    return Use(storage=storage, size_bytes=size, constant=constant)


def _op(role, reads, writes, *, kind=None, flops=0, level="1", scores=0):
    return Op(
        level=level,
        kind=kind or ("product" if role == "anchor" else "memory"),
        role=role,
        flops=flops,
        reads=tuple(reads),
        writes=tuple(writes),
        score_bytes=scores,
    )


def _total(kernels):
    return sum(kernel.count for kernel in kernels)


WEIGHT = _use(99, 40, constant=True)


def test_eager_kernels_share_the_bytes_of_two_images_and_keep_those_of_weights():
    product = _op("anchor", [_use(1), WEIGHT], [_use(2, 60)], flops=1000)
    (found,) = eager_kernels([product], 2)
    assert (found.flops, found.activation_bytes, found.weight_bytes) == (500.0, 80.0, 40.0)


def test_equal_kernels_are_counted_and_those_that_move_data_averaged():
    op = _op("anchor", [_use(1), WEIGHT], [_use(2)], flops=10)
    moves = [_op("elementwise", [_use(1, size)], [_use(2, size)]) for size in (100, 300)]
    memory, product = eager_kernels([op, op, *moves], 1)
    assert (product.count, product.activation_bytes) == (2, 200.0)
    assert (memory.count, memory.activation_bytes) == (2, 400.0)


def test_elementwise_ops_between_two_products_are_one_kernel_without_its_own_tensors():
    ops = [
        _op("anchor", [_use(1), WEIGHT], [_use(2)], flops=10),
        _op("elementwise", [_use(2), _use(7)], [_use(3)]),  # a second tensor: no epilogue
        _op("elementwise", [_use(3)], [_use(4)]),
        _op("anchor", [_use(4), WEIGHT], [_use(5)], flops=20),
    ]
    found = fused_kernels(ops, 1)
    assert _total(found) == 3
    (memory,) = [kernel for kernel in found if kernel.kind == "memory"]
    assert memory.activation_bytes == 300.0  # reads 2 and 7, writes 4; 3 never leaves it


def test_an_op_of_one_tensor_after_a_product_is_part_of_it():
    ops = [
        _op("anchor", [_use(1), WEIGHT], [_use(2)], flops=10),
        _op("elementwise", [_use(2)], [_use(3)]),
    ]
    (found,) = fused_kernels(ops, 1)
    assert (found.kind, found.flops, found.activation_bytes) == ("product", 10.0, 200.0)


def test_a_tensor_that_is_read_later_as_well_is_written():
    ops = [
        _op("elementwise", [_use(1)], [_use(2)]),
        _op("elementwise", [_use(2)], [_use(3)]),
        _op("anchor", [_use(3), WEIGHT], [_use(4)], flops=10),
        _op("reduction", [_use(2), _use(4)], [_use(5)]),
    ]
    first = fused_kernels(ops[:3], 1)
    later = fused_kernels(ops, 1)
    assert [k.activation_bytes for k in first if k.kind == "memory"] == [200.0]
    # the first group now writes 2 as well, and the last one reads 2 and 4 and writes 5
    assert [k.activation_bytes for k in later if k.kind == "memory"] == [(300.0 + 300.0) / 2]


def test_a_group_has_one_reduction():
    ops = [
        _op("elementwise", [_use(1)], [_use(2)]),
        _op("reduction", [_use(2)], [_use(3)]),
        _op("elementwise", [_use(3)], [_use(4)]),
        _op("reduction", [_use(4)], [_use(5)]),
    ]
    assert _total(fused_kernels(ops, 1)) == 2


def test_work_on_weights_alone_is_done_beforehand_in_a_compiled_engine_only():
    folded = _op("elementwise", [WEIGHT], [_use(98, constant=True)])
    product = _op("anchor", [_use(1), _use(98, constant=True)], [_use(2)], flops=10)
    assert _total(fused_kernels([folded, product], 1)) == 1
    assert _total(eager_kernels([folded, product], 1)) == 2


def test_the_result_of_the_network_is_written_though_nothing_reads_it():
    (found,) = fused_kernels([_op("elementwise", [_use(1)], [_use(2, 30)])], 1)
    assert found.activation_bytes == 130.0
