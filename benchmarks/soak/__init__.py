"""Three daemons under load and faults for minutes: is all there that was acknowledged, is memory
flat, is it quick?
"""
