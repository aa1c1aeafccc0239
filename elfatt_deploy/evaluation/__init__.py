"""Accuracy on labelled images, and agreement with the torch model."""
