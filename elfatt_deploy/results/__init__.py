"""Run records: what one is, where they are kept, and how two of them are compared."""
