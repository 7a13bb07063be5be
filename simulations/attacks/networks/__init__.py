"""The networks that attacks train. torch is slow to import: an attack imports them where it needs them."""
