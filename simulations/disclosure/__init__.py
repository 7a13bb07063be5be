"""What `medveil-site disclose` has done without a key: the attacks on a site's images and settings, and the page."""
