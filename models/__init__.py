"""The Vision Transformer and its stem. Takes permutations as plain arrays; no key, no cipher, no Flower."""
