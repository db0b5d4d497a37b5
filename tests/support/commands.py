"""Arguments of commands that several tests run."""

# a tenth of the default work: enough to be a picture, little enough for a test
SMALL = [
    "--preset", "fast", "--max-size", "252", "--set", "pose.max_size=504", "--set", "pose.max_features=2048", "--set", "init.max_size=168",
    "--set", "init.planes=48", "--set", "optimize.steps=60", "--set", "optimize.sh_degree=1",
]  # fmt: skip
