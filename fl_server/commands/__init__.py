"""The commands of `medveil-server`."""
