"""An emulated board: a tree of files, and programs that act on it. It measures nothing.

`board.open_simulated("sim:agx-orin-64gb")` gives a transport like any other. The folder of a
board holds `root/` (its files), `bin/` (its programs, for PATH) and `state.json`. The programs are
started often: their modules import the standard library alone, until trtexec meets a graph.
"""
