"""Hidden image files: what they say of themselves, and how each kind of file is hidden and shown again."""
