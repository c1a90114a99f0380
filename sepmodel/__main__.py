"""``python -m sepmodel``."""

from sepmodel.cli import main

if __name__ == "__main__":
    main()
