"""Aggregation: the Flower ServerApp, the strategy wrapper and checkpoints. Never holds a key."""
