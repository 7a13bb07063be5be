"""What `make docs` is made of: pages generated from the program, and checks of what people wrote."""
