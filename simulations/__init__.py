"""Experiments: many sites on one machine, figures and reports."""
