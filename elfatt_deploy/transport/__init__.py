"""Where commands run and files go: one protocol for this machine, a board, a recording."""
