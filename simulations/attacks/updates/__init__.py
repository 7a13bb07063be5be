"""Attacks on updates: what whoever reads what sites send makes of it."""
