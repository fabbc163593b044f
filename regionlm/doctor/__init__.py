"""What is installed, and whether it works: what to put in a report of a bug.

`examine()` keeps going whatever fails, and loads torch only when it is called.
"""

from regionlm.doctor.diagnosis import Diagnosis, DiagnosisSection, Row
from regionlm.doctor.examination import examine

__all__ = ["Diagnosis", "DiagnosisSection", "Row", "examine"]
