"""Sums of updates that open no single one: who takes part, and the arithmetic both sides need. Knows no Flower."""
