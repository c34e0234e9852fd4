"""The version of sgdd, said once."""

__version__ = "0.1.0"
