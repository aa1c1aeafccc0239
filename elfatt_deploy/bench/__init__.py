"""Measuring: protocol and clock, statistics, warnings; needs numpy alone."""
