"""pixelSplat (Charatan et al., CVPR 2024, arXiv:2312.12337): from a pair of posed images to 3D Gaussians, without optimization.

    resnet, vit  -> backbone     what each image shows, at full resolution
    epipolar     -> transformer  where each pixel may lie in the other image, and which of these places looks alike
    depth                        a distribution over depth buckets for each pixel, and a draw from it
    network                      all of it, with the names of the published weights
    checkpoint                   reads those weights
    frame                        the unit of length and the depth range that it knows

Written from the paper and from facts about the published network; modules are named as in its checkpoint, so that it loads as it is.
"""
