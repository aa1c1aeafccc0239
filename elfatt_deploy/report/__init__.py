"""The report: our records beside what the paper published."""
