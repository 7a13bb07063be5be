"""Attacks on hidden images as files: what ciphertexts, alone or with some plaintexts, give away."""
