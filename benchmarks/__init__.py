"""The cost of rqdisco: run `python -m benchmarks` from the root of the project, where the project
is installed.
"""
