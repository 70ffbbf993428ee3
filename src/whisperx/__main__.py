"""`python -m whisperx`."""

import sys

from whisperx.cli import main

sys.exit(main())
