"""`python -m altreco_client`: the same as `altreco`."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
