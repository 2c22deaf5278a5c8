"""`python -m nnsim`: the same as the command `nnsim`."""

from nnsim.cli import main

if __name__ == "__main__":
    main()
