"""The domain: records and their transitions, addresses, IDs, errors, encodings. Pure: no Twisted,
clock, disk.
"""
