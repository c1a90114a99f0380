"""sepmodel: rare-earth separation routes, with numbers that can be checked."""

__version__ = "0.1.0.dev0"
