"""The daemon as a Twisted service: options, configuration, listeners, lifecycle."""
