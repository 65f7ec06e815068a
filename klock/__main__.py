"""`python -m klock`."""

from klock.commands import main

if __name__ == "__main__":
    main()
