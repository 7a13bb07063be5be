"""Attacks that hand what one attack recovers to another."""
