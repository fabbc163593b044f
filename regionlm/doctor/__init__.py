"""Find out what is installed and whether it works, for a bug report.

`examine()` continues whatever fails, and loads torch only when it is called.
"""

from regionlm.doctor.diagnosis import Diagnosis, DiagnosisSection, Row
from regionlm.doctor.examination import examine

__all__ = ["Diagnosis", "DiagnosisSection", "Row", "examine"]
