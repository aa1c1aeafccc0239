"""The exported graph: simplified, read back, and held against its target."""
