"""What people see of a run while it works and after: its log, its progress, the bar of a terminal. No run reads any of it."""
