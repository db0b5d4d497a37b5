"""The MVSplat encoder (Chen et al. 2024, arXiv:2403.14627), whose modules are named as in the published checkpoints."""
