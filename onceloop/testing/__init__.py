"""Try a handler on a real broker and database: kill it at every point of the loop, and have the result judged.

# test_ledger.py
from onceloop.testing import Case

LEDGER = Case(app="ledger:app", records=[("p1", b"..."), ...], effects="SELECT account, balance FROM account")

pytest --onceloop test_ledger.py
"""

from onceloop.testing.case import Case
from onceloop.testing.servers import Servers

__all__ = ["Case", "Servers"]
