"""Single stays, looked at: what was hidden and predicted of them, their risk over time, and why."""
