# SPDX-License-Identifier: Apache-2.0
"""`python -m embellie_testbed.demo`: run the demo."""

import sys

from embellie_testbed.demo.run import main

if __name__ == "__main__":
    sys.exit(main())
