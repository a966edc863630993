"""``python -m fastinfer``: the command line."""

from fastinfer.cli import main

if __name__ == "__main__":
    main()
