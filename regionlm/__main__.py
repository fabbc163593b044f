"""`python -m regionlm`."""

import sys

from regionlm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
