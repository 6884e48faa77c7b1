"""`python -m dsrface`: the same program as the console script."""

from dsrface.cli import main

if __name__ == "__main__":
    main()
