"""Entry for `python veilsupport.py` and for the built executable."""

from veilsupport import unpacked

unpacked.settle()  # before the imports that take time

from veilsupport.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
