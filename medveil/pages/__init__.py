"""What all pages have: their frame, their style, and pictures as text. A page is one file that needs no network."""
