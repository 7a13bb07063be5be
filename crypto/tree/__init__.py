"""Whole folders hidden and shown: walked lazily, worked on by many processes, resumed after any end."""
