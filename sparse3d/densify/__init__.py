"""Densification: which new views to ask a prior for, and which of its answers to keep."""
