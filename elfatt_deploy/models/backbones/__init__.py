"""Backbones, one family a file."""
