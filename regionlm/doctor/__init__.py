"""What is installed, and whether it works: what to put in a report of a bug.

`examine()` keeps going whatever fails, and loads torch only when it is called.
"""

from regionlm.doctor.examination import examine
from regionlm.doctor.report import Report, Row, Section

__all__ = ["Report", "Row", "Section", "examine"]
