"""``python -m rlm_cachetrack``: the command line."""

from rlm_cachetrack.cli import main

if __name__ == "__main__":
    main()
