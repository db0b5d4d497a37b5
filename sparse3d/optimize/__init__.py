"""Fit Gaussians to posed views."""
