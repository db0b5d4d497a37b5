"""Files of 3D Gaussians in the formats of other programs; each in one file."""
