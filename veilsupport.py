"""Entry for `python veilsupport.py` and for the built executable."""

from veilsupport.cli import main

if __name__ == "__main__":
    main()
