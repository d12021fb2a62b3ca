"""Many discovery IDs under faults at three real daemons; an ID without one cluster prints its
events.
"""
