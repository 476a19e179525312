"""Run as a program, it writes Vega's scripts, which vl-convert puts together and brings with it: 30 MB, for one page.

It imports nothing of ours, so that it is at work a tenth of a second after it was started.
"""

import sys

if __name__ == "__main__":
    import vl_convert

    sys.stdout.buffer.write(vl_convert.javascript_bundle().encode())  # type: ignore[call-arg]  # it has a default
