"""`python -m balancegan`."""

from balancegan.cli import main

if __name__ == "__main__":
    main()
