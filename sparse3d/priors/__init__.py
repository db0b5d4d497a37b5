"""Priors: what draws the views that no photo shows. One file each, behind the protocols of `base`."""
