"""The commands of medveil-crypto, one file a group."""
