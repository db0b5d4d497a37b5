"""Networks that predict Gaussians from a few posed views, written anew and held to what the published ones compute."""
