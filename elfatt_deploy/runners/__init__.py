"""Back ends with the same three methods: open, infer, close."""
