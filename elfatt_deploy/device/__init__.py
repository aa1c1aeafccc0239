"""A board: what it is, its power modes, its rails; changing it, and putting it back."""
