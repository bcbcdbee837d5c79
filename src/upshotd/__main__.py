"""`python -m upshotd` is `upshot`."""

from upshotd.cli import main

if __name__ == "__main__":
    main()
