"""Many discovery IDs live through faults at three real daemons; whoever starves tells its whole
story.
"""
