"""Differential privacy inside a site: what a step may show of one image or patient, and what that adds up to."""
