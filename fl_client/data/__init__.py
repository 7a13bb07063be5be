"""One hospital's images: from files to the encrypted, memory-mapped store."""
