"""Attacks on hidden images, and what they are measured against: chance, an unprotected control and a wrong key."""
