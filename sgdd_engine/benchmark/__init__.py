"""`sgdd bench`: what the engine's shortcuts save on this machine, measured beside the plain way of doing it."""
