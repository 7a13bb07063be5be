"""One file per image cipher; `crypto.cipher` holds the register of their names."""
