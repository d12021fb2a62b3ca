"""Three daemons under load and faults for minutes: nothing acknowledged may be lost, memory must
stay flat, answers must stay quick.
"""
