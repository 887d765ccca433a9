"""`python -m vtrain` does what `vtrain` does."""

from vtrain.cli import main

if __name__ == "__main__":
    main()
