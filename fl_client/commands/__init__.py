"""The commands of `medveil-site`."""
