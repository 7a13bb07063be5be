"""A real site: its own settings, limits and approvals, Flower's SuperNode and the site's own worker."""
