"""Whether a judge can be trusted: its agreement with people, its biases, its calibration, its drift, and panels."""
