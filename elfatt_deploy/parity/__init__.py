"""Whether a runner gives the reference outputs."""
