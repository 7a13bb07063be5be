"""A hospital's side of secure aggregation: what it masks, what it agrees to, and what it remembers of it."""
