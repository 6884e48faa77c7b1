"""Draw the README's second image from the report that `dsrface demo` wrote: first sentence, table and faces.

python docs/images/make_report.py dsrface-demo/report/report.html; needs chromium.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

IMAGE = Path(__file__).with_name("report.png")
CHROMIUM = shutil.which("chromium") or "chromium"
WIDTH, HEIGHT = 860, 1200
_GROUP = '<tr class="group">'


def shortened(page: str) -> str:
    """Return the page with its head, the first group of the main table and three of the faces."""
    sections = dict(re.findall(r"(?s)<section><h2>(.*?)</h2>(.*?)</section>", page))
    head = re.search(r"(?s)^.*?</header>", page)
    assert head is not None
    title = "Verification: is it the same person?"
    table = sections[title].split(_GROUP)
    top = f"{table[0]}{_GROUP}{table[1]}</tbody></table></div>"
    strips = sections["The images themselves"]
    rows = re.findall(r"(?s)<tr><th.*?</tr>", strips.partition("<tbody>")[2])
    faces = f"{strips.partition('<tbody>')[0]}<tbody>{''.join(rows[1::2])}</tbody></table></div>"
    return (
        re.sub(r'(?s)<ul class="details">.*?</ul>', "", head[0])
        + f"<section><h2>{title}</h2>{top}</section><section><h2>The images themselves</h2>{faces}</section>"
        # the last columns, d' and the accuracy, would be cut off
        + "<style>:is(th, td):nth-child(n+6) { display: none }</style>"
        + "<style>h2 { margin-top: 1.4rem } main { padding-bottom: 1rem }</style></main></body></html>"
    )


def main() -> int:
    """Write the image."""
    page = shortened(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        file.write_text(page, encoding="utf-8")
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        options += [f"--user-data-dir={folder}/profile", f"--window-size={WIDTH},{HEIGHT}"]
        command = [CHROMIUM, *options, f"--screenshot={IMAGE}", file.as_uri()]
        subprocess.run(command, check=True, timeout=120, stderr=subprocess.DEVNULL)
    return 0


if __name__ == "__main__":
    sys.exit(main())
