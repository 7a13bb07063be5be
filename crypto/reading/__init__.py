"""What a file is, whether it is an image to be trained on, and what its pixels are: one reader for every door."""
