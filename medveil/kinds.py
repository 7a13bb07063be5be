"""The types of message that a server sends sites: three of every run, and four of one with secure aggregation."""

from __future__ import annotations

QUERY, TRAIN, EVALUATE = "query", "train", "evaluate"
MASK, AGREE, UNMASK, END = "train.mask", "query.agree", "query.unmask", "query.end"
KINDS = (QUERY, TRAIN, EVALUATE, MASK, AGREE, UNMASK, END)
"""Each stands for one function of a site's app."""
