"""The commands of `medveil-crypto`, by what they handle."""
