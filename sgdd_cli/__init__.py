"""The `sgdd` command: parses, builds settings, calls one engine function, draws what it reports."""
