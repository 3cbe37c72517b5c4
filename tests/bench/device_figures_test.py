#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tools/device_figures.py: limits, missing rows, and the comparison with other allocators."""
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import device_figures as tool  # noqa: E402


def rows(text: str) -> tool.Rows:
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        file.write("subject,case,metric,unit,value\n" + text)
        file.flush()
        return tool.Rows(pathlib.Path(file.name))


def figure(name: str, text: str) -> tool.Figure:
    return next(figure for figure in tool.figures(rows(text)) if figure.name == name)


class Figures(unittest.TestCase):
    def test_a_limit_holds_or_is_missed(self):
        name = "W1 1M x 64 alloc / floor-sm"
        floor = "floor-sm,W1/1000000/64,alloc,us,10\n"
        self.assertEqual(figure(name, floor + "ours,W1/1000000/64,alloc,us,20\n").verdict(), "ok")
        self.assertEqual(figure(name, floor + "ours,W1/1000000/64,alloc,us,20.1\n").verdict(), "MISSED")
        self.assertEqual(figure(name, floor).verdict(), "MISSING")
        self.assertEqual(figure("W4 churn", "ours,W4/100000,pairs,Mpairs/s,4999\n").verdict(), "MISSED")

    def test_a_free_is_held_against_the_floors_allocation(self):
        found = figure("W1 1M x 64 free / floor-sm alloc",
                       "floor-sm,W1/1000000/64,alloc,us,10\nours,W1/1000000/64,free,us,15\n")
        self.assertEqual(found.cells, {"W1/1000000/64": 1.5})

    def test_every_step_of_w5_is_held_against_the_first(self):
        text = "".join(f"ours,W5/{1 << step}/64,alloc-net,us,{(1 << step) * (2 if step == 20 else 1)}\n" for step in range(17, 25))
        found = figure("W5 alloc a call / that at 2^17", text)
        self.assertEqual(found.cells["W5/1048576/64"], 2)
        self.assertEqual(sum(value == 1 for value in found.cells.values()), 7)
        self.assertIn("W5/1048576/64; 1 of 8 miss", found.line()[2])

    def test_cells_are_divided_at_one_gibibyte(self):
        below = figure("W1, W2 to 1 GiB, alloc / floor-sm", "").cells
        above = figure("W1, W2 above 1 GiB, alloc / floor-sm", "").cells
        self.assertIn("W1/1000000/1024", below)
        self.assertIn("W2/1000000/4096", above)
        self.assertEqual(len(below) + len(above), 24)


class Peers(unittest.TestCase):
    ours = ("floor-one,A,alloc,us,10\nours,A,alloc,us,20\nours,A,share,fraction,0.9\nfloor-one,W8/1,alloc,us,10\n"
            "ours,W8/1,alloc,us,20\nours,W8/1,supported,fraction,1\n")

    def compared(self, text: str) -> dict:
        return tool.against_peers(rows(self.ours), rows("floor-one,A,alloc,us,5\nfloor-one,W8/1,alloc,us,5\n" + text))

    def test_times_are_compared_over_the_floor_of_their_run(self):
        found = self.compared("peer,A,alloc,us,9\nother,A,alloc,us,100\n")["alloc"]
        self.assertEqual(found, [("A", 2.0, 1.8, "peer")])
        self.assertTrue(tool.is_lost("alloc", 2.0, 1.8))
        self.assertFalse(tool.is_lost("alloc", 2.0, 2.2))

    def test_shares_are_compared_as_they_are(self):
        self.assertEqual(self.compared("peer,A,share,fraction,0.95\n")["share"], [("A", 0.9, 0.95, "peer")])
        self.assertTrue(tool.is_lost("share", 0.9, 0.95))

    def test_floors_and_failures_are_no_peers(self):
        self.assertEqual(self.compared("bump-per-thread,A,alloc,us,1\npeer,A,failed,text,hang\n")["alloc"], [])
        self.assertEqual(self.compared("peer,W8/1,alloc,us,1\npeer,W8/1,supported,fraction,0.4\n")["alloc"], [])
        self.assertEqual(len(self.compared("peer,W8/1,alloc,us,1\npeer,W8/1,supported,fraction,1\n")["alloc"]), 1)


if __name__ == "__main__":
    unittest.main()
