"""What hides an image: keys and image ciphers. Knows arrays and files; no model, no Flower."""
