"""The types of message that a server sends sites: three of every run, and three of one with secure aggregation."""

from __future__ import annotations

QUERY, TRAIN, EVALUATE = "query", "train", "evaluate"
MASK, AGREE, UNMASK = "train.mask", "query.agree", "query.unmask"
KINDS = (QUERY, TRAIN, EVALUATE, MASK, AGREE, UNMASK)
"""Each stands for one function of a site's app."""
