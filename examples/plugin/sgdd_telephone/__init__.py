"""A command and a position rule for sgdd."""

# The version of sgdd's plugin interface that this package was written for.
SGDD_API = 1
