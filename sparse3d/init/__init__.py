"""First Gaussians from posed views."""
