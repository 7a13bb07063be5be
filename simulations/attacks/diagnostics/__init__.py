"""Measurements that recover nothing: they are no attacks, and no verdict follows from them."""
