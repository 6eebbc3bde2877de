"""From predictions to numbers that can be defended: metrics, intervals, the linear probe, baselines."""
