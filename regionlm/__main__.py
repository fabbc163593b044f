"""`python -m regionlm`."""

import sys

from regionlm.cli import main

if __name__ == "__main__":
    sys.exit(main())
