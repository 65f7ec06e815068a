"""`python -m klock`."""

from klock.entry import main

if __name__ == "__main__":
    main()
