"""What attacks on updates stand on: capabilities, situations, and updates made as hospitals make them."""
