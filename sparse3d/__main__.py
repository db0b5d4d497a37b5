"""`python -m sparse3d` is the same as the `sparse3d` command."""

from sparse3d.cli import main

main()
