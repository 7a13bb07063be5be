"""How an attack is measured: what it knows, on which images and keys, against what, and how the result is scored."""
