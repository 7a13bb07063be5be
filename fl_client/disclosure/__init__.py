"""What a site says of what leaves it: attacks on its own images and settings, signed before anything goes."""
