"""Pages about runs: one run, and several side by side. Each is one file that needs no network."""
