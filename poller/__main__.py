"""`poller` and `python -m poller`: loads the command line, which takes a moment that Ctrl-C may end."""

import sys

try:
    from poller.cli import main
except KeyboardInterrupt:
    sys.exit(130)

if __name__ == "__main__":
    main()
