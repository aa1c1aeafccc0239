"""Models by name: a torch-free registry, and torch modules that are imported only to be built."""
