"""Estimates of speed from a network's kernels and a board's clocks, before anyone owns the board.

counting.py [torch] counts kernels on the model itself; its result is shipped, so that no other file
here needs torch.
"""
