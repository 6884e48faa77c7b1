"""The parts of `dsrface evaluate`: measure images, score pairs, judge, draw, report."""
