"""A plain Flower app, as one would write it: the other side of the comparison. Copied into a bundle of its own."""
