"""List the packages; pyproject.toml holds everything else."""

from setuptools import find_packages, setup

# Twisted finds plugins in directories without an __init__.py, which find_packages skips.
setup(packages=[*find_packages(include=["rqdisco", "rqdisco.*"]), "twisted.plugins"])
