"""`medveil-sim bench --deployment`: a real consortium on this machine, beside plain Flower doing the same work."""
