"""`python -m balancegan`."""

from balancegan.cli.app import main

if __name__ == "__main__":
    main()
