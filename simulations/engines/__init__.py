"""Ways to run the two Flower apps: in this process, or through Flower's own simulation."""
