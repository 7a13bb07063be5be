"""The server's side of secure aggregation: it passes on what sites offer, adds up what they mask, and opens one sum."""
