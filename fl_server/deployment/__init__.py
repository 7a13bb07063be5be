"""A real server: the consortium's certificates, its sites, and Flower's SuperLink."""
