"""`python -m sgdd_cli` is `sgdd`."""

from sgdd_cli.main import main

if __name__ == "__main__":
    main()
