"""DepthSplat (Xu et al., CVPR 2025, arXiv:2410.13862): depth from matching and a monocular prior, then Gaussians."""
