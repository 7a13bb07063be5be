"""Schemes by attacks: every attack on every scheme, run where it is missing, and told on one page."""
